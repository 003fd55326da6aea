"""Predict masks for labelled images and score them."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Bool, Float, UInt8

from sempart_jax.data.images import (
    UnreadableImageError,
    center_crop,
    read_image,
    read_mask,
    resize_short_side,
)
from sempart_jax.metrics.saliency import SaliencyScores

FOREGROUND_RULES = ("batch", "image")
BATCH_RULE_SIZE = 8
"""Images whose common mean decides which side is foreground under the rule ``batch``."""
CENTRE_BOX = "centre box"


@dataclasses.dataclass(frozen=True)
class Score:
    """Scores of one kind of mask over a data set.

    Attributes:
        accuracy: mean fraction of right pixels.
        iou: mean intersection over union of the images whose union is not empty; NaN if none is.
        max_f_beta: maximum over thresholds of the mean F measure, beta^2 = 0.3.
        images: number of images.
    """

    accuracy: float
    iou: float
    max_f_beta: float
    images: int


def choose_foreground(
    masks: Float[np.ndarray, "N H W"], rule: str = "batch"
) -> Float[np.ndarray, "N H W"]:
    """Invert masks that cover more than half: the loss does not tell the two sides apart.

    Args:
        masks: soft masks ``[N, H, W]`` in [0, 1].
        rule: ``batch`` decides for all together by their common mean (two tricks, Sec. 5.1),
            ``image`` for each by its own.

    Returns:
        Masks ``[N, H, W]``.

    Raises:
        ValueError: if there is no such rule.
    """
    if rule not in FOREGROUND_RULES:
        raise ValueError(f"unknown foreground rule {rule!r}: choose one of {FOREGROUND_RULES}")
    axes = (0, 1, 2) if rule == "batch" else (1, 2)
    inverted = masks.mean(axis=axes, keepdims=True) > 0.5
    return np.where(inverted, 1 - masks, masks)


def centre_box(size: int, side: float = 0.6) -> Bool[np.ndarray, "size size"]:
    """Mask of a square box in the middle: what anybody scores who knows nothing of an image.

    Args:
        size: side of the image in pixels.
        side: side of the box as a fraction of the image's.

    Returns:
        Boolean mask ``[size, size]``.
    """
    distance = np.abs(np.arange(size) + 0.5 - size / 2)
    inside = distance < side * size / 2
    return inside[:, None] & inside[None, :]


def labelled_batches(
    pairs: Sequence[tuple[Path, Path]], *, batch_size: int, image_size: int, resize_size: int
) -> Iterator[tuple[UInt8[np.ndarray, "B S S 3"], Bool[np.ndarray, "B S S"]]]:
    """Read images and masks, short side to ``resize_size``, and crop both in the middle.

    A pair that cannot be read or whose mask has another size than its image is named in the log
    and left out.

    Args:
        pairs: image file and mask file.
        batch_size: number of pairs at a time; the last batch may be smaller.
        image_size: side of the crop in pixels.
        resize_size: short side before the crop in pixels.

    Yields:
        Images and masks.
    """
    images: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for image_path, mask_path in pairs:
        try:
            image, mask = read_image(image_path), read_mask(mask_path)
        except UnreadableImageError as error:
            logging.warning("left out: %s", error)
            continue
        if image.shape[:2] != mask.shape:
            logging.warning(
                "left out: %s is %dx%d, its mask %s %dx%d",
                image_path,
                *image.shape[:2],
                mask_path,
                *mask.shape,
            )
            continue
        images.append(center_crop(resize_short_side(image, resize_size), image_size))
        grey = resize_short_side(mask.astype(np.uint8) * np.uint8(255), resize_size)
        masks.append(center_crop(grey, image_size) > 127)
        if len(images) == batch_size:
            yield np.stack(images), np.stack(masks)
            images, masks = [], []
    if images:
        yield np.stack(images), np.stack(masks)


def score_pairs(
    pairs: Sequence[tuple[Path, Path]],
    predict: Callable[[np.ndarray], dict[str, np.ndarray]],
    *,
    image_size: int,
    resize_size: int,
    foreground_rule: str = "batch",
) -> dict[str, Score]:
    """Score predicted masks of labelled images in a centre crop.

    Args:
        pairs: image file and mask file.
        predict: from uint8 images ``[B, S, S, 3]`` to masks ``[B, S, S]`` in [0, 1] by name.
        image_size: side of the crop in pixels.
        resize_size: short side before the crop in pixels.
        foreground_rule: see :func:`choose_foreground`.

    Returns:
        Score of each kind of mask, and of a :data:`CENTRE_BOX` for comparison.

    Raises:
        ValueError: if no pair can be read.
    """
    scores: dict[str, SaliencyScores] = {}
    for images, truths in labelled_batches(
        pairs, batch_size=BATCH_RULE_SIZE, image_size=image_size, resize_size=resize_size
    ):
        masks = {
            name: choose_foreground(mask, foreground_rule) for name, mask in predict(images).items()
        }
        masks[CENTRE_BOX] = np.broadcast_to(centre_box(image_size), truths.shape)
        for name, mask in masks.items():
            scores.setdefault(name, SaliencyScores()).update(mask, truths)
    if not scores:
        raise ValueError(f"none of the {len(pairs)} labelled images can be read")
    results = {name: score.compute() for name, score in scores.items()}
    return {
        name: Score(result.accuracy, result.iou, result.max_f_beta, result.images)
        for name, result in results.items()
    }
