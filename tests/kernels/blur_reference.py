"""A Gaussian blur in float64, to compare with."""

import numpy as np


def kernel(sigma: float, radius: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def blurred(image: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Correlate with the outer product of the kernel with itself, at once; in float64."""
    weights = np.outer(kernel(sigma, radius), kernel(sigma, radius))
    margins = ((radius, radius), (radius, radius), (0, 0))
    padded = np.pad(image.astype(np.float64), margins, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape, (0, 1))
    return np.einsum("hwcij,ij->hwc", windows, weights)
