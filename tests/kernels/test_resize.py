"""Bilinear resampling against sampling written out per pixel."""

import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels.resize import double_bilinear, resize_bilinear


def reference_resize(x, height, width):
    """Sample one [H, W] image at (i + 0.5) * in / out - 0.5, coordinates clamped to the image."""

    def axis_weights(size, wanted):
        position = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, size - 1)
        return low, high, position - low

    low, high, weight = axis_weights(x.shape[0], height)
    rows = x[low] * (1 - weight)[:, None] + x[high] * weight[:, None]
    low, high, weight = axis_weights(x.shape[1], width)
    return rows[:, low] * (1 - weight) + rows[:, high] * weight


@pytest.mark.parametrize("wanted", [(3, 4), (12, 20), (24, 40), (5, 7), (1, 1), (30, 41)])
def test_resize_equals_reference(wanted):
    x = np.random.default_rng(0).normal(size=(2, 12, 20, 3)).astype(np.float32)
    resized = resize_bilinear(jnp.asarray(x), *wanted)
    assert resized.shape == (2, *wanted, 3)
    for image in range(2):
        for channel in range(3):
            expected = reference_resize(x[image, :, :, channel].astype(np.float64), *wanted)
            np.testing.assert_allclose(resized[image, :, :, channel], expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 2), (1, 9, 3), (6, 5, 1)])
def test_double_equals_resize(height, width, channels):
    x = np.random.default_rng(height * 10 + width).normal(size=(1, height, width, channels))
    x = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(
        double_bilinear(x), resize_bilinear(x, 2 * height, 2 * width), atol=1e-6
    )


def test_double_keeps_bfloat16():
    assert double_bilinear(jnp.ones((1, 2, 2, 1), jnp.bfloat16)).dtype == jnp.bfloat16
