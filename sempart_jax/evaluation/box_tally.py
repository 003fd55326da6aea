"""Boxes of masks against ground-truth boxes: what is read of a data set and kept of each image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sempart_jax.data.boxed import BoxedSet
from sempart_jax.data.images import count_pixels
from sempart_jax.evaluation.masks import FramedImage
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.scored import Masks, ScoredSet, Tally
from sempart_jax.metrics.localization import largest_box
from sempart_jax.metrics.protocols import centre_box


def localization_set(boxed: BoxedSet) -> "ScoredSet[BoxTally]":
    """Prepare the images of a data set of boxes for scoring at their own size."""
    names = tuple(boxed.paths)

    def read(index: int) -> tuple[FramedImage, None]:
        image = boxed.read(names[index])
        return FramedImage(names[index], image, image.shape[:2]), None

    def count(masks: Masks, truth: Any) -> BoxTally:
        tally = BoxTally()
        height, width = next(iter(masks.values())).shape
        tally.add({**masks, CENTRE_BOX: centre_box(height, width)})
        return tally

    def pixels(index: int) -> int:
        return count_pixels(boxed.paths[names[index]])

    return ScoredSet(names, read, count, BoxTally, pixels=pixels)


def boxes_by_name(
    names: Sequence[str], boxes: Sequence[tuple[float, float, float, float]]
) -> dict[str, tuple[float, float, float, float] | None]:
    """Pair boxes of a :class:`BoxTally` with the names of their images; ``None`` for no box."""
    return {
        name: None if np.isnan(box).any() else box for name, box in zip(names, boxes, strict=True)
    }


class BoxTally(Tally):
    """The box of the largest component of each mask, see ``metrics.localization.largest_box``.

    Attributes:
        boxes: ``(x_min, y_min, x_max, y_max)`` of each image by post-processing, NaN for an empty
            mask.
    """

    def __init__(self) -> None:
        self.boxes: dict[str, list[tuple[float, float, float, float]]] = {}

    def add(self, masks: Masks) -> None:
        """Add one image.

        Args:
            masks: masks of the whole image by name.
        """
        for name, mask in masks.items():
            x_min, y_min, x_max, y_max = largest_box(mask) or (np.nan,) * 4
            self.boxes.setdefault(name, []).append(
                (float(x_min), float(y_min), float(x_max), float(y_max))
            )

    def merge(self, other: "BoxTally") -> None:
        """Add the images of another tally."""
        for name, boxes in other.boxes.items():
            self.boxes.setdefault(name, []).extend(boxes)
