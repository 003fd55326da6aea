"""Single-object localisation: the box of a mask, overlap of boxes, CorLoc.

A box is ``(x_min, y_min, x_max, y_max)`` in pixels, counted from 0 at the image's left and top,
with exclusive ends: the box of a single pixel in column 3 and row 5 is ``(3, 5, 4, 6)``, that of a
whole image ``(0, 0, width, height)``, and its area is ``(x_max - x_min) * (y_max - y_min)``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int, Shaped

from sempart_jax.host.shown_names import shorten
from sempart_jax.metrics.saliency import binarize

Box = Sequence[int | float] | Shaped[np.ndarray, "4"]
"""``(x_min, y_min, x_max, y_max)`` in pixels, ends exclusive."""

IOU_THRESHOLD = 0.5
"""PASCAL's criterion: a box that overlaps an object by so much is on it."""


def largest_box(mask: Shaped[np.ndarray, "H W"]) -> tuple[int, int, int, int] | None:
    """Bound the connected component of a mask whose bounding box has the largest area.

    Pixels are connected to their four neighbours. It is the box that counts, not the number of
    pixels: a thin diagonal wins over a smaller filled square. Of equal boxes, the component whose
    first pixel comes first, row by row, is taken. A soft mask is cut at one half.

    Returns:
        ``(x_min, y_min, x_max, y_max)``, ends exclusive; None where the mask is empty.
    """
    boxes = _boxes(scipy.ndimage.label(binarize(mask))[0])
    return max(boxes, key=_area, default=None)


def largest_component(mask: Shaped[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Take the component that :func:`largest_box` bounds; empty if the mask is."""
    components, _ = scipy.ndimage.label(binarize(mask))
    areas = list(map(_area, _boxes(components)))
    return components == 1 + int(np.argmax(areas)) if areas else np.zeros_like(components, bool)


def _boxes(components: Int[np.ndarray, "H W"]) -> list[tuple[int, int, int, int]]:
    return [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in scipy.ndimage.find_objects(components)
    ]


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def box_iou(
    box: Shaped[np.ndarray, "4"], boxes: Shaped[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Intersection over union, in [0, 1], of one box with each of several.

    Lengths are differences of coordinates, without the +1 of PASCAL's own tools, because ends are
    exclusive here. 0 where either box has no area.
    """
    box, boxes = box.astype(np.float64), boxes.astype(np.float64)
    # |A ∩ B|, each side being the lesser end minus the greater start
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    intersection = np.prod(np.maximum(sides, 0.0), axis=-1)
    # |A ∪ B| = |A| + |B| - |A ∩ B|
    union = (
        np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) - intersection
    )
    return np.divide(intersection, union, out=np.zeros_like(union), where=intersection > 0)


def corloc(predicted: Mapping[str, Box | None], ground_truth: Mapping[str, Sequence[Box]]) -> float:
    """Percentage of the images whose predicted box is on an object (correct localisation).

    A box is correct when its IoU with any ground-truth box of its image is at least 0.5, as LOST
    (arXiv 2109.14279) and TokenCut (arXiv 2202.11539) score. Each image that has a ground-truth box
    counts: no prediction, None (an empty mask) or a box of no area is wrong there. Images without
    ground-truth boxes are left out, whatever is predicted for them. To score a part of a benchmark,
    give the ground truth of that part.

    Args:
        predicted: the box of each image, by the image's id; None where nothing was found.
        ground_truth: all boxes of each image, by the image's id.

    Returns:
        Percent in [0, 100].

    Raises:
        ValueError: predictions for ids that ``ground_truth`` does not hold, a box that is not four
            finite numbers or ends before it starts, or no image with a ground-truth box.
    """
    extra = [name for name in predicted if name not in ground_truth]
    if extra:
        raise ValueError(
            f"{len(extra)} of {len(predicted)} predictions are for images that are not in the "
            f"ground truth: {shorten(extra)}: check that both are of one "
            "benchmark and split, and name images alike"
        )
    counted = {name: boxes for name, boxes in ground_truth.items() if len(boxes)}
    if not counted:
        raise ValueError(
            f"none of the {len(ground_truth)} images in the ground truth has a box: CorLoc is "
            "defined over images with at least one object"
        )
    correct = 0
    for name, boxes in counted.items():
        objects = np.stack([_checked(box, f"ground-truth box of image {name}") for box in boxes])
        box = predicted.get(name)
        if box is not None:
            overlap = box_iou(_checked(box, f"predicted box of image {name}"), objects)
            correct += bool(np.max(overlap) >= IOU_THRESHOLD)
    return 100.0 * correct / len(counted)


def _checked(box: Box, what: str) -> Float[np.ndarray, "4"]:
    values = np.asarray(box, np.float64)
    if values.shape != (4,) or not np.all(np.isfinite(values)):
        raise ValueError(f"{what}: {box} is not four finite numbers x_min, y_min, x_max, y_max")
    if np.any(values[2:] < values[:2]):
        raise ValueError(
            f"{what}: {box} ends before it starts: give x_min, y_min, x_max, y_max, "
            "not width and height"
        )
    return values
