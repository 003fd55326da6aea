"""Saliency by the minimum barrier distance (MB+; Zhang et al., ICCV 2015)."""

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from sempart_jax.baselines.saliency.superpixels import Superpixels
from sempart_jax.kernels.scales import unit_range

PASSES = 3
BORDER = 0.1
"""Width of the four border regions over the image's sides."""

_LEAST_VARIANCE = 1.0
_NO_PATH = 255 * 65792


def barrier_distance(
    channels: UInt8[np.ndarray, "H W C"], passes: int = PASSES
) -> Int[np.ndarray, "H W C"]:
    """Approximate the minimum barrier distance to the border, in levels (Alg. 1, FastMBD).

    The barrier of a path is its largest value less its smallest; each channel has paths of its own.
    Raster scans, forwards and backwards in turn; from its two neighbours before it in the scan, a
    pixel takes the path of the smaller barrier. The pixels of one antidiagonal do not depend on
    each other, and take their steps together. Of two equal barriers, the one with the smaller
    maximum is taken.
    """
    height, width, count = channels.shape
    rows, columns = np.indices((height, width))
    diagonals = rows + columns
    # Antidiagonal d of the image is row d; its pixel in row r of the image is at r.
    levels = np.zeros((height + width - 1, count, height), np.int32)
    levels[diagonals, :, rows] = channels
    # Highest and lowest value of a path, in one number that is ordered by their difference.
    paths = np.full((height + width - 1, count, height + 2), _NO_PATH, np.int32)
    inner = paths[..., 1:-1]
    seed = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    inner[diagonals[seed], :, rows[seed]] = channels[seed].astype(np.int32) * 257
    # pairs of neighbouring rows: [diagonals, 2, channels, rows + 1]
    pairs = np.moveaxis(sliding_window_view(paths, 2, axis=-1), -1, 1)
    for scan in range(passes):
        step, shift = (-1, 1) if scan % 2 else (1, 0)
        order = range(1, len(paths)) if step == 1 else range(len(paths) - 2, -1, -1)
        for diagonal in order:
            first, end = max(0, diagonal - width + 1), min(height, diagonal + 1)
            value, own = levels[diagonal, :, first:end], inner[diagonal, :, first:end]
            before = pairs[diagonal - step, :, :, first + shift : end + shift]
            highest = np.maximum((before >> 8) & 255, value)
            lowest = np.minimum(before & 255, value)
            # (highest - lowest) 2^16 + highest 2^8 + lowest
            one, other = highest * 65792 - lowest * 65535
            np.minimum(np.minimum(one, other), own, out=own)
    return (inner >> 16)[diagonals, :, rows]


def backgroundness(lab: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """Contrast of colours to the four border regions but the most different one (Sec. 4).

    Returns:
        Sum of the Mahalanobis distances, each over its largest, less the largest of the four; in
        [0, 1].
    """
    height, width = (max(1, round(side * BORDER)) for side in lab.shape[:2])
    distances = []
    for region in (lab[:height], lab[-height:], lab[:, :width], lab[:, -width:]):
        colors = region.reshape(-1, 3)
        mean = colors.mean(axis=0)
        covariance = (colors - mean).T @ (colors - mean) / len(colors)
        inverse = np.linalg.inv(covariance + _LEAST_VARIANCE * np.eye(3))
        away = lab - mean
        squared = np.einsum("hwc,hwc->hw", away @ inverse, away)
        # Rounding may leave it below 0.
        distances.append(unit_range(np.sqrt(np.maximum(squared, 0))))
    return unit_range(np.sum(distances, axis=0) - np.max(distances, axis=0))


def minimum_barrier(
    superpixels: Superpixels, lab: Float[np.ndarray, "H W 3"]
) -> Float[np.ndarray, " N"]:
    """Barrier distance plus backgroundness, smoothed (MB+).

    Smoothed by superpixels, where the authors open and close the map. Their weight towards the
    middle and their sigmoid come later, for all priors, see ``priors.saliency_priors``.

    Returns:
        Saliency in [0, 1]; 0 where the image has one colour.
    """
    levels = (lab + np.array([0, 128, 128])) * np.array([2.55, 1, 1])
    channels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    distance = barrier_distance(channels).sum(axis=-1).astype(np.float64)
    return unit_range(superpixels.mean(unit_range(distance) + backgroundness(lab)))
