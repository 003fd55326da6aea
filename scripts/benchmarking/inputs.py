"""What the workloads work on: the same arrays for both sides."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

BATCH, BATCHES = 8, 12
"""Images a batch of the input pipeline, and batches that one run takes from it."""


def random_images(batch: int, side: int) -> np.ndarray:
    """Draw RGB uint8 ``[B, side, side, 3]``."""
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)


def filter_inputs(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw an RGB image uint8 ``[H, W, 3]`` and a mask float32 ``[H, W]`` in [0, 1]."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return image, rng.uniform(size=(height, width)).astype(np.float32)


def patch_inputs(batch: int, grid: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw keys ``[B, h, w, D]`` of two kinds of patches, and a coarse mask ``[B, h, w, 1]``."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, (batch, grid, grid))
    centres = rng.normal(size=(2, channels))
    keys = centres[kinds] + 0.7 * rng.normal(size=(batch, grid, grid, channels))
    mask = rng.uniform(0.1, 0.9, (batch, grid, grid, 1))
    return keys.astype(np.float32), mask.astype(np.float32)


def relative(arrays: Iterable[ArrayLike]) -> np.ndarray:
    """Put results of several sizes into one array, each divided by its largest absolute value."""
    parts = [np.ravel(np.asarray(array)) for array in arrays]
    return np.concatenate([part / np.abs(part).max() for part in parts])
