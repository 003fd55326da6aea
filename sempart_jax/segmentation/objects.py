"""A foreground as its objects: found, measured, and the largest of those that are sure kept."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Integer, UInt8

from sempart_jax.kernels.host_guided_filter import guided_radius
from sempart_jax.segmentation.outputs import MOST_OBJECTS

LEAST_SHARE = 0.05
"""Area of the smallest part that is an object, as a share of the largest part's."""

# Of the largest distance to the edge: as deep is the inside of an object at least, and a place that
# is not as deep is where two touch.
_DEEP, _NECK = 0.6, 0.4


class Objects(NamedTuple):
    """The objects of an image.

    Attributes:
        mask: soft mask ``[H, W]`` of all objects and their soft rims.
        labels: ``[H, W]``, 0 is background, 1 the largest object, and so on.
        rims: ``[H, W]``, the same with the soft rim of each.
        boxes: ``[x_min, y_min, x_max, y_max]`` of each, ends exclusive.
        areas: share of the pixels of each.
        confidences: of each, see :func:`expected_iou`.
        best: confidence of the surest object that was found, kept or not; 0 if there was none.
    """

    mask: Float[np.ndarray, "H W"]
    labels: UInt8[np.ndarray, "H W"]
    rims: UInt8[np.ndarray, "H W"]
    boxes: list[list[int]]
    areas: list[float]
    confidences: list[float]
    best: float


def split(binary: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Take a foreground apart: into its connected parts, and these at their necks.

    Parts (four neighbours) under :data:`LEAST_SHARE` of the largest are left out. A part is several
    objects where it has several deep places, between which it is less than 0.4 times as wide as at
    its widest; a pixel belongs to the place that it is nearest to.

    Returns:
        ``[H, W]``, 0 where there is no object.
    """
    parts, _ = scipy.ndimage.label(binary)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    labels = _renumber(parts, [k for k in _largest(areas) if areas[k] >= LEAST_SHARE * areas.max()])
    count = int(labels.max())
    for number, place in enumerate(scipy.ndimage.find_objects(labels), 1):
        pieces = _pieces(labels[place] == number)
        for piece in range(2, min(int(pieces.max()), 1 + MOST_OBJECTS - count) + 1):
            count += 1
            labels[place][pieces == piece] = count
    return labels


def _pieces(part: Bool[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    depth = scipy.ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    cores, count = scipy.ndimage.label(depth > _NECK * depth.max())
    deepest = scipy.ndimage.maximum(depth, cores, np.arange(1, count + 1))
    deep = 1 + np.flatnonzero(deepest >= _DEEP * depth.max())
    if len(deep) == 1:
        return part.view(np.uint8)
    cores = _renumber(cores, deep.tolist())
    # As a watershed whose floods advance at one pace: they meet at the necks.
    _, nearest = scipy.ndimage.distance_transform_edt(cores == 0, return_indices=True)
    return np.where(part, cores[tuple(nearest)], 0)


def combine(
    masks: Iterable[Float[np.ndarray, "H W"]], shape: tuple[int, int], threshold: float
) -> tuple[Float[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
    """Put the soft masks of single objects, :data:`MOST_OBJECTS` at most, into one.

    Returns:
        Their maximum, and the number of the mask that is largest where that is above the threshold.
    """
    mask, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for number, each in enumerate(masks, 1):
        labels[(each > mask) & (each > threshold)] = number
        np.maximum(mask, each, out=mask)
    return mask, labels


def choose(
    mask: Float[np.ndarray, "H W"],
    binary: Bool[np.ndarray, "H W"],
    labels: UInt8[np.ndarray, "H W"],
    most: int,
    least_confidence: float,
) -> Objects:
    """Keep the ``most`` largest objects of those whose confidence suffices."""
    rims = territories(labels, binary)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    confidences = np.zeros(len(areas))
    for number, place in enumerate(scipy.ndimage.find_objects(rims), 1):
        if number < len(areas) and areas[number]:
            own = np.where(rims[place] == number, mask[place], 0)
            confidences[number] = expected_iou(own, labels[place] == number)
    kept = _largest(np.where(confidences >= least_confidence, areas, 0))[:most]
    labels, rims = _renumber(labels, kept), _renumber(rims, kept)
    return Objects(
        np.where(rims > 0, mask, np.float32(0)),
        labels,
        rims,
        [
            [columns.start, rows.start, columns.stop, rows.stop]
            for rows, columns in scipy.ndimage.find_objects(labels)
        ],
        [float(areas[number]) / labels.size for number in kept],
        [float(confidences[number]) for number in kept],
        float(confidences.max()),
    )


def territories(
    labels: UInt8[np.ndarray, "H W"], binary: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W"]:
    """Add to each object its soft rim.

    The rim is what is not foreground itself within the radius of the guided filter, which is as far
    as that smears an edge.
    """
    near = scipy.ndimage.maximum_filter(labels, 2 * guided_radius(*labels.shape) + 1)
    near[binary] = 0
    return np.where(labels > 0, labels, near)


def expected_iou(mask: Float[np.ndarray, "H W"], binary: Bool[np.ndarray, "H W"]) -> float:
    """Say how decided a mask is: the IoU that it promises itself.

    If the soft values p were probabilities that a pixel is foreground, the cut mask b would have
    this IoU with the truth, as a ratio of expected areas: 1 where p is 0 or 1 everywhere, about
    one half where foreground is barely above, and background barely below 0.5. No ground truth is
    involved, and the values are not calibrated.

    Returns:
        In [0, 1]; 0 for an empty mask.
    """
    # E|b ∩ y| / E|b ∪ y| = sum_b p / (|b| + sum_not-b p)
    inside = float(np.sum(mask, where=binary, dtype=np.float64))
    union = np.count_nonzero(binary) + float(np.sum(mask, dtype=np.float64)) - inside
    return inside / union if inside else 0.0


def _largest(areas: Integer[np.ndarray, " K"]) -> list[int]:
    """List the numbers that have an area, from the largest on, as many as there may be objects."""
    order = np.argsort(-areas, kind="stable")[:MOST_OBJECTS]
    return [int(number) for number in order if areas[number]]


def _renumber(labels: Integer[np.ndarray, "H W"], kept: Iterable[int]) -> UInt8[np.ndarray, "H W"]:
    numbers = np.zeros(int(labels.max()) + 1, np.uint8)
    for number, each in enumerate(kept, 1):
        numbers[each] = number
    return numbers[labels]
