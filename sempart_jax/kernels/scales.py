"""Values brought to one scale: from 0 to 1, and around Otsu's threshold."""

import numpy as np
from jaxtyping import Float, Int

_FLAT = 1e-6
_BINS = 256


def unit_range(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Shift and scale values to [0, 1]; all 0 where they differ by rounding alone."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > _FLAT else np.zeros_like(values)


def otsu(values: Float[np.ndarray, " N"], sizes: Int[np.ndarray, " N"]) -> float:
    """Find the threshold of largest variance between its two sides (Otsu 1979).

    Args:
        values: in [0, 1].
        sizes: how often each of them counts.

    Returns:
        The threshold, a multiple of 1/256; 1 where all values are in one bin.
    """
    bins = np.minimum((values * _BINS).astype(int), _BINS - 1)
    histogram = np.bincount(bins, sizes, _BINS)
    below = histogram.cumsum()
    above = below[-1] - below
    moment = (histogram * np.arange(_BINS)).cumsum()
    # w0 w1 (m0 - m1)^2 of the sides below and above the end of each bin
    both = below * above
    between = np.where(both > 0, (moment * below[-1] - moment[-1] * below) ** 2, 0)
    between = between / np.maximum(both, 1)
    return float(between.argmax() + 1) / _BINS if between.any() else 1.0
