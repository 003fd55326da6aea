"""Masks refined on the host: the guided filter of any size, and the post-processings by name."""

import logging
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.baselines.bilateral import bilateral_solver
from sempart_jax.data.image_sizes import resize
from sempart_jax.predict import postprocessing
from sempart_jax.predict.postprocessing import POSTPROCESSINGS, guided, guided_radius, postprocess
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
        patch.setattr(postprocessing, "_TILE_SIDE", tile_side)
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


def test_no_image_size_is_compiled(caplog):
    def compilations():
        return sum("Compiling" in record.getMessage() for record in caplog.records)

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for height in (20, 21, 22):
            image, mask = scene(height, 30)
            for name in POSTPROCESSINGS:
                postprocess(name, image, mask)
        assert compilations() == 0
        jax.jit(lambda x: x * 1.75)(np.ones(3, np.float32))
        assert compilations() > 0


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", POSTPROCESSINGS)
def test_constant_masks_are_kept(name, constant):
    image, _ = scene(33, 47)
    mask = np.full((33, 47), constant, np.float32)
    np.testing.assert_allclose(postprocess(name, image, mask), mask, rtol=0, atol=2e-7)


def test_names():
    assert list(POSTPROCESSINGS) == ["none", "guided", "bilateral", "bilateral_16_16_8"]
    with pytest.raises(TypeError):
        POSTPROCESSINGS["none"] = None


def test_each_name_is_its_method():
    image, mask = scene(50, 64)
    expected = {
        "none": mask,
        "guided": reference_guided(image, mask, guided_radius(50, 64)),
        "bilateral": bilateral_solver(image, mask, 24, 4, 4),
        "bilateral_16_16_8": bilateral_solver(image, mask, 16, 16, 8),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            postprocess(name, image, mask), np.clip(values, 0, 1), rtol=0, atol=ROUNDING
        )
    distances = [np.abs(a - b).max() for a in expected.values() for b in expected.values()]
    assert np.count_nonzero(np.array(distances) > 1e-3) == 12


@pytest.mark.parametrize("name", POSTPROCESSINGS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_result_is_a_new_float32_array_in_range(name, dtype):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = (image[..., 1] > 127).astype(dtype)
    mask[0, 0] = 1 + 5e-4
    before = mask.copy()
    refined = postprocess(name, image, mask)
    assert refined.dtype == np.float32
    assert refined.shape == mask.shape
    assert refined.min() >= 0
    assert refined.max() <= 1
    refined[:] = 0.5
    np.testing.assert_array_equal(mask, before)
    if name == "guided":
        assert guided(image, mask).min() < -0.01  # what is clipped


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("name", POSTPROCESSINGS)
@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4)), r"\(5, 4\).*\(4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 1)), r"\(4, 5, 1\).*\(4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), bool), r"bool.*\(4, 5\)"),
        (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5)), r"image.*float32.*\(4, 5, 3\)"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5)), r"image.*uint8.*\(4, 5\)"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5)), r"image.*\(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), np.nan), "from nan to nan"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 255.0), r"255.0.*divide"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), -0.1), r"-0.1.*\[0, 1\]"),
    ],
)
def test_wrong_arrays_are_named(name, image, mask, message):
    with pytest.raises(ValueError, match=message):
        postprocess(name, image, mask)


def test_wrong_constants_are_named():
    image, mask = scene(5, 6)
    with pytest.raises(ValueError, match="'sharp': choose from none, guided, bilateral"):
        postprocess("sharp", image, mask)
    with pytest.raises(ValueError, match="radius must be 0 or more pixels, got -1"):
        guided(image, mask, radius=-1)
    for eps in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"eps must be positive, got {eps}"):
            guided(image, mask, eps=eps)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        guided(image, 255 * mask)


def test_large_images_are_reduced_for_the_bilateral_solver(monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    mask = rng.random((40, 60)).astype(np.float32)
    monkeypatch.setattr(postprocessing, "BILATERAL_PIXELS", 600)
    refined = postprocess("bilateral", image, mask)
    small = bilateral_solver(resize(image, 20, 30), resize(mask, 20, 30), 24, 4, 4)
    expected = np.clip(resize(small.astype(np.float32), 40, 60), 0, 1)
    np.testing.assert_allclose(refined, expected, atol=1e-6)
    np.testing.assert_array_equal(postprocess("none", image, mask), mask)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(320, 320, 9), (640, 900, 18), (300, 400, 8), (1, 1000, 1), (4, 4, 1), (3000, 4000, 84)],
)
def test_radius_grows_with_the_short_side(height, width, radius):
    assert guided_radius(height, width) == guided_radius(width, height) == radius


def test_no_pixels_have_no_radius():
    with pytest.raises(ValueError, match="at least one pixel, got 0x5"):
        guided_radius(0, 5)
