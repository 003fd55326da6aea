"""Score the masks of a data set: load, predict, post-process, measure.

As many images are in memory at a time as a bound of pixels allows, and never more than a part.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from absl import logging

from sempart_jax.data.images import UnreadableImageError
from sempart_jax.evaluation.masks import Failure, FramedImage, Mask, MaskSource
from sempart_jax.evaluation.scored import Kind, Scored, ScoredSet
from sempart_jax.host.pixel_budget import within_pixels
from sempart_jax.metrics.protocols import BATCH_RULE_SIZE, Protocol, inverted_masks
from sempart_jax.predict.postprocessing import postprocess

PART_SIZE = 64
"""Most images that are in memory together; a multiple of the batch rule's eight."""
HELD_PIXELS = 100_000_000
"""Pixels of the images that are in memory together; more than the largest that is read. Of
photographs of 12 megapixels that is one batch of the network."""


def score(
    scored_set: ScoredSet[Kind],
    source: MaskSource,
    protocol: Protocol,
    *,
    foreground_rule: str,
    postprocessings: Sequence[str],
    advance: Callable[[int], object] = lambda images: None,
) -> Scored[Kind]:
    """Score a data set.

    Which side of a mask is foreground is decided on the mask as it comes from the source; the
    post-processings then work on the chosen side.

    Args:
        scored_set: images, and what is counted.
        source: where the masks come from.
        protocol: what is scored of an image.
        foreground_rule: see ``metrics.protocols.inverted_masks``.
        postprocessings: names of ``postprocessing``.
        advance: called with the number of images after each part.

    Returns:
        What was counted of all readable images, in their order.

    Raises:
        ValueError: if no image can be scored.
    """
    total = Scored(scored_set.tally())
    count = len(scored_set.names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, count, PART_SIZE):
            indices = range(start, min(start + PART_SIZE, count))
            known = len(total.left_out)
            _score_part(
                scored_set, indices, source, protocol, foreground_rule, postprocessings, total, pool
            )
            for line in total.left_out[known:]:
                logging.warning("left out: %s", line)
            advance(len(indices))
    if not total.names:
        reasons = "; ".join(total.left_out[:3])
        raise ValueError(f"none of the {count} images can be scored: {reasons}")
    return total


def _score_part(
    scored_set: ScoredSet[Kind],
    indices: Sequence[int],
    source: MaskSource,
    protocol: Protocol,
    foreground_rule: str,
    postprocessings: Sequence[str],
    total: Scored[Kind],
    pool: ThreadPoolExecutor,
) -> None:
    decided_together = BATCH_RULE_SIZE if foreground_rule == "batch" else 1
    waiting: list[_Predicted] = []
    for run in within_pixels(indices, scored_set.pixels, HELD_PIXELS):
        waiting += _predict(scored_set, run, source, protocol, total, pool)
        whole = len(waiting) // decided_together * decided_together
        _measure(scored_set, waiting[:whole], foreground_rule, postprocessings, total, pool)
        del waiting[:whole]
    _measure(scored_set, waiting, foreground_rule, postprocessings, total, pool)


_Predicted = tuple[FramedImage, Any, Mask]
"""An image, what is known of it, and its mask."""


def _predict(
    scored_set: ScoredSet[Kind],
    indices: Sequence[int],
    source: MaskSource,
    protocol: Protocol,
    total: Scored[Kind],
    pool: ThreadPoolExecutor,
) -> list[_Predicted]:
    """Read images and predict their masks; add those of which there is none to the total."""

    def read(index: int) -> tuple[FramedImage, Any] | Failure:
        try:
            return scored_set.read(index)
        except UnreadableImageError as error:
            return Failure(str(error))

    with total.timed("load"):
        loaded = list(pool.map(read, indices))
    total.left_out += [item.reason for item in loaded if isinstance(item, Failure)]
    readable = [item for item in loaded if not isinstance(item, Failure)]
    with total.timed("model"):
        predicted = source([framed for framed, _ in readable], protocol)
    total.left_out += [mask.reason for mask in predicted if isinstance(mask, Failure)]
    return [
        (framed, truth, mask)
        for (framed, truth), mask in zip(readable, predicted, strict=True)
        if not isinstance(mask, Failure)
    ]


def _measure(
    scored_set: ScoredSet[Kind],
    predicted: Sequence[_Predicted],
    foreground_rule: str,
    postprocessings: Sequence[str],
    total: Scored[Kind],
    pool: ThreadPoolExecutor,
) -> None:
    """Post-process masks and add what is counted of them to the total."""
    total.names += [framed.name for framed, _, _ in predicted]
    inverted = inverted_masks([mask for _, _, mask in predicted], foreground_rule).tolist()
    total.inverted += inverted

    def process(framed: FramedImage, mask: Mask, swapped: bool) -> dict[str, Mask]:
        chosen = 1 - mask if swapped else mask
        return {name: postprocess(name, framed.image, chosen) for name in postprocessings}

    images, truths, masks = zip(*predicted, strict=True) if predicted else ((), (), ())
    with total.timed("post-processing"):
        processed = list(pool.map(process, images, masks, inverted))
    with total.timed("metrics"):
        for tally in pool.map(scored_set.count, processed, truths):
            total.tally.merge(tally)
