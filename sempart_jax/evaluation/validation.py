"""The scores by which a training is watched on a small labelled folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.labelled import LabelledFolder
from sempart_jax.evaluation.origin import Mask, Origin, masks_of
from sempart_jax.evaluation.scoring import Scorer
from sempart_jax.evaluation.sections import saliency_section
from sempart_jax.metrics.protocols import Protocol
from sempart_jax.metrics.saliency import SaliencyResult


def validate(
    pairs: Sequence[tuple[Path, Path]],
    predictor: Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Mask]],
    *,
    foreground_rule: str,
    resize_size: int,
    crop_size: int,
    postprocessings: Sequence[str],
) -> dict[str, SaliencyResult]:
    """Score masks of the middle of each image, as training sees it.

    Args:
        pairs: files of images and ground truths.
        predictor: from images of any sizes to a mask of each.
        foreground_rule: see ``metrics.protocols.inverted_masks``.
        resize_size: short side of the images in pixels before the crop.
        crop_size: side of the crop in pixels.
        postprocessings: names of ``predict.postprocessing``, by which the scores come, with those
            of a box in the middle.
    """
    protocol = Protocol("validation", foreground_rule, resize_size=resize_size, crop_size=crop_size)
    section = saliency_section(
        Scorer(postprocessings, progress=False),
        "validation",
        LabelledFolder(pairs),
        Origin(masks_of(predictor), {}),
        protocol,
    )
    return {name: scores.compute() for name, scores in section.scores.items()}
