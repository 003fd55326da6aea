"""The guided filter for masks of any size on the host."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.kernels import host_guided_filter
from sempart_jax.kernels.host_guided_filter import guided, guided_radius
from sempart_jax.two_tricks.filters import grey_guide, guided_filter

ROUNDING = 1.5e-7  # of a float32 in a result that overshoots 1 a little


def window_means(x, radius):
    """Means over windows clipped at the border, by a summed-area table in float64."""
    table = np.cumsum(np.cumsum(np.pad(x, ((1, 0), (1, 0))), axis=0), axis=1)
    rows, columns = (np.arange(size) for size in x.shape)
    top, bottom = np.maximum(rows - radius, 0), np.minimum(rows + radius + 1, x.shape[0])
    left, right = np.maximum(columns - radius, 0), np.minimum(columns + radius + 1, x.shape[1])
    bands = table[bottom] - table[top]
    return (bands[:, right] - bands[:, left]) / np.outer(bottom - top, right - left)


def reference_guided(image, mask, radius, eps=1e-3):
    guide, mask = image.astype(np.float64).mean(-1) / 255, mask.astype(np.float64)
    guide_mean, mask_mean = window_means(guide, radius), window_means(mask, radius)
    covariance = window_means(guide * mask, radius) - guide_mean * mask_mean
    variance = window_means(guide**2, radius) - guide_mean**2
    slope = covariance / (variance + eps)
    intercept = mask_mean - slope * guide_mean
    return window_means(slope, radius) * guide + window_means(intercept, radius)


def scene(height, width, seed=0):
    """Image of a smooth half and a noisy one, and a blob that follows neither."""
    rng = np.random.default_rng(seed)
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    image = np.stack([127 + 90 * rows + 30 * columns, 127 + 120 * columns + 0 * rows], axis=-1)
    image = np.concatenate([image, 127 + 100 * (rows * columns)[..., None]], axis=-1)
    image[:, width // 2 :] += rng.normal(scale=30, size=(height, width - width // 2, 3))
    mask = np.clip(1.2 - 2 * np.hypot(rows - 0.1, columns + 0.05), 0, 1).astype(np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    radius=st.integers(0, 12) | st.sampled_from([40, 1000]),
    tile_side=st.sampled_from([1, 8, 16, 35, 1024]),
    seed=st.integers(0, 2**31),
)
def test_filter_in_tiles_equals_the_exact_filter(height, width, radius, tile_side, seed):
    image, mask = scene(height, width, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_guided_filter, "_TILE_SIDE", tile_side)
        filtered = guided(image, mask, radius=radius)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(
        filtered, reference_guided(image, mask, radius), rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(1024, 1025, None), (2049, 300, None), (1, 5000, 30), (1200, 1300, 400), (40, 30, 900)],
)
def test_sizes_at_the_borders_of_tiles(height, width, radius):
    image, mask = scene(height, width)
    expected = reference_guided(image, mask, radius or guided_radius(height, width))
    np.testing.assert_allclose(guided(image, mask, radius=radius), expected, rtol=0, atol=ROUNDING)
    transposed = guided(image.swapaxes(0, 1), mask.T, radius=radius)
    np.testing.assert_allclose(transposed.T, expected, rtol=0, atol=ROUNDING)


@pytest.mark.slow
def test_twelve_megapixels_are_exact_in_bounded_memory():
    image, mask = scene(3000, 4000)
    tracemalloc.start()
    filtered = guided(image, mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(
        filtered, reference_guided(image, mask, 84), rtol=0, atol=2 * ROUNDING
    )
    # One array of the image's size in float64 takes 96 MB, and the filter has eight at a time.
    assert peak - filtered.nbytes < 160e6


@pytest.mark.parametrize(("height", "width", "radius"), [(1, 1, 9), (1, 60, 3), (90, 120, 9)])
@pytest.mark.parametrize("eps", [1e-3, 1e-2])
def test_equals_the_filter_of_training(height, width, radius, eps):
    image, mask = scene(height, width)
    guide = grey_guide(jnp.asarray(image, jnp.float32) / 255)
    in_training = jax.jit(guided_filter, static_argnums=(2, 3))
    expected = in_training(guide, jnp.asarray(mask)[..., None], radius, eps)[..., 0]
    # The latter computes in float32.
    np.testing.assert_allclose(guided(image, mask, radius=radius, eps=eps), expected, atol=4e-6)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(320, 320, 9), (640, 900, 18), (300, 400, 8), (1, 1000, 1), (4, 4, 1), (3000, 4000, 84)],
)
def test_radius_grows_with_the_short_side(height, width, radius):
    assert guided_radius(height, width) == guided_radius(width, height) == radius


def test_what_is_no_radius_or_variance_is_refused():
    image, mask = scene(5, 6)
    with pytest.raises(ValueError, match="radius must be 0 or more pixels, got -1"):
        guided(image, mask, radius=-1)
    for eps in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"eps must be positive, got {eps}"):
            guided(image, mask, eps=eps)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        guided(image, 255 * mask)
    with pytest.raises(ValueError, match="at least one pixel, got 0x5"):
        guided_radius(0, 5)
