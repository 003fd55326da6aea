"""Score the masks of a data set: load, predict, post-process, measure.

As many images are in memory at a time as a bound of pixels allows, and never more than a part.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Shaped
from tqdm import tqdm

from sempart_jax.data.folder import comparable
from sempart_jax.data.images import UnreadableImageError
from sempart_jax.evaluation.origin import Failure, FramedImage, Mask, Origin
from sempart_jax.host.pixel_budget import within_pixels
from sempart_jax.metrics.protocols import BATCH_RULE_SIZE, Protocol, inverted_masks
from sempart_jax.predict.postprocessing import postprocess

STAGES = ("load", "model", "post-processing", "metrics")
PART_SIZE = 64
"""Most images that are in memory together."""
HELD_PIXELS = 100_000_000
"""Pixels of the images that are in memory together; more than the largest that is read. Of
photographs of 12 megapixels that is one batch of the network."""

Masks = Mapping[str, Shaped[np.ndarray, "H W"]]
"""Soft or boolean masks of one image, by post-processing."""


@dataclasses.dataclass(frozen=True)
class ScoredSet:
    """A data set, and what is measured of its masks.

    Attributes:
        names: names of the images.
        pixels: index of an image to how many it takes to read it; 0 if that is not known.
        read: index of an image to what is scored of it, and its truth; raises UnreadableImageError.
        measure: masks of an image, by post-processing, and its truth, to whatever is kept of them.
    """

    names: Sequence[str]
    pixels: Callable[[int], int]
    read: Callable[[int], tuple[FramedImage, Any]]
    measure: Callable[[Masks, Any], Any]


class Scored(NamedTuple):
    """One image: its name, whether its mask was inverted, and what was measured."""

    name: str
    inverted: bool
    measured: Any


@dataclasses.dataclass
class Scorer:
    """One way to score, and what scoring has taken so far.

    Attributes:
        postprocessings: names of ``sempart_jax.predict.postprocessing``.
        foreground_rule: rule under all protocols; ``None`` takes that of each protocol, and
            leaves masks as they are whose origin has chosen their foreground.
        extra: whether the further scores of PySODMetrics are wanted.
        progress: whether a bar shows how far it is.
        seconds: wall time by stage.
        left_out: images that were not scored and why, a line each.
    """

    postprocessings: Sequence[str]
    foreground_rule: str | None = None
    extra: bool = False
    progress: bool = True
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(STAGES, 0.0)
    )
    left_out: list[str] = dataclasses.field(default_factory=list)

    def rule(self, protocol: Protocol, origin: Origin) -> str:
        """Name what decides which side of a mask is foreground."""
        default = "none" if origin.foreground_chosen else protocol.foreground_rule
        return self.foreground_rule or default

    def score(
        self, dataset: str, images: ScoredSet, origin: Origin, protocol: Protocol
    ) -> Iterator[Scored]:
        """Score a data set; yields all images that can be scored, in their order.

        Which side of a mask is foreground is decided on the mask as it comes from its origin; the
        post-processings then work on the chosen side. A ValueError tells if no image can be scored.
        """
        label = f"{dataset}, {protocol.name}"
        rule = self.rule(protocol, origin)
        decided_together = BATCH_RULE_SIZE if rule == "batch" else 1
        indices = _with_masks(dataset, images.names, origin)
        failures: list[str] = []

        def pixels(index: int) -> int:
            return max(images.pixels(index), HELD_PIXELS // PART_SIZE)

        def leave_out(items: Sequence[Any]) -> None:
            for item in items:
                if isinstance(item, Failure):
                    failures.append(item.reason)
                    logging.warning("left out: %s", item.reason)

        def read(index: int) -> tuple[FramedImage, Any] | Failure:
            try:
                return images.read(index)
            except UnreadableImageError as error:
                return Failure(str(error))

        def predict(run: Sequence[int]) -> list[tuple[FramedImage, Any, Mask]]:
            with self._timed("load"):
                loaded = list(pool.map(read, run))
            leave_out(loaded)
            readable = [item for item in loaded if not isinstance(item, Failure)]
            with self._timed("model"):
                masks = origin.source([framed for framed, _ in readable], protocol)
            leave_out(masks)
            return [
                (framed, truth, mask)
                for (framed, truth), mask in zip(readable, masks, strict=True)
                if not isinstance(mask, Failure)
            ]

        def process(framed: FramedImage, mask: Mask, swapped: bool) -> dict[str, Mask]:
            chosen = 1 - mask if swapped else mask
            return {name: postprocess(name, framed.image, chosen) for name in self.postprocessings}

        def measure(predicted: Sequence[tuple[FramedImage, Any, Mask]]) -> Iterator[Scored]:
            inverted = inverted_masks([mask for _, _, mask in predicted], rule).tolist()
            framed, truths, masks = zip(*predicted, strict=True) if predicted else ((), (), ())
            with self._timed("post-processing"):
                processed = list(pool.map(process, framed, masks, inverted))
            with self._timed("metrics"):
                measured = list(pool.map(images.measure, processed, truths))
            names = [each.name for each in framed]
            return map(Scored, names, inverted, measured)

        bar = tqdm(total=len(indices), desc=label, unit="image", disable=not self.progress)
        with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
            waiting: list[tuple[FramedImage, Any, Mask]] = []
            for run in within_pixels(indices, pixels, HELD_PIXELS):
                waiting += predict(run)
                whole = len(waiting) // decided_together * decided_together
                yield from measure(waiting[:whole])
                del waiting[:whole]
                bar.update(len(run))
            yield from measure(waiting)
        self.left_out += [f"{label}: {line}" for line in failures]
        if len(failures) == len(indices):
            reasons = "; ".join(failures[:3])
            raise ValueError(f"none of the {len(indices)} images can be scored: {reasons}")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


def _with_masks(dataset: str, names: Sequence[str], origin: Origin) -> Sequence[int]:
    """Return the indices of the images that there are masks of."""
    if origin.names is None:
        return range(len(names))
    kept = [index for index, name in enumerate(names) if comparable(name) in origin.names]
    if not kept:
        raise ValueError(
            f"{dataset}: none of its {len(names)} images has a mask, such as {names[0]}: a mask "
            "has the name of its image up to the extension"
        )
    if len(kept) < len(names):
        logging.warning(
            "%s: masks for %d of %d images; the others are left out", dataset, len(kept), len(names)
        )
    return kept
