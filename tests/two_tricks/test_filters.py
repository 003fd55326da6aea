"""Box filter and guided filter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from PIL import Image

from sempart_jax.data.images import read_grey, read_image
from sempart_jax.metrics.saliency import iou
from sempart_jax.two_tricks import filters
from sempart_jax.two_tricks.filters import grey_guide

# Compiled as one: op by op, each of the many small ones would compile on its own.
box_filter = jax.jit(filters.box_filter, static_argnames="radius")
guided_filter = jax.jit(filters.guided_filter, static_argnames=("radius", "eps"))


def reference_box_filter(x: np.ndarray, radius: int) -> np.ndarray:
    height, width, _ = x.shape
    sums = np.zeros(x.shape, np.float64)
    for row in range(height):
        for column in range(width):
            window = x[
                max(row - radius, 0) : row + radius + 1,
                max(column - radius, 0) : column + radius + 1,
            ]
            sums[row, column] = window.sum((0, 1), dtype=np.float64)
    return sums


def reference_guided_filter(guide: np.ndarray, src: np.ndarray, radius: int, eps: float):
    guide, src = guide.astype(np.float64), src.astype(np.float64)
    channels = guide.shape[-1]
    counts = reference_box_filter(np.ones_like(guide[..., :1]), radius)

    def mean(x):
        return reference_box_filter(x, radius) / counts

    filtered = np.zeros_like(src)
    outer = (guide[..., :, None] * guide[..., None, :]).reshape(*guide.shape[:2], -1)
    guide_mean = mean(guide)
    covariance = mean(outer).reshape(*guide.shape[:2], channels, channels)
    covariance -= guide_mean[..., :, None] * guide_mean[..., None, :]
    for channel in range(src.shape[-1]):
        p = src[..., channel : channel + 1]
        cross = mean(guide * p) - guide_mean * mean(p)
        slope = np.linalg.solve(covariance + eps * np.eye(channels), cross[..., None])[..., 0]
        intercept = mean(p) - (slope * guide_mean).sum(-1, keepdims=True)
        q = (mean(slope) * guide).sum(-1, keepdims=True) + mean(intercept)
        filtered[..., channel : channel + 1] = q
    return filtered


def random_pair(height, width, guide_channels=1, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    guide = rng.uniform(size=(height, width, guide_channels)).astype(np.float32)
    src = rng.uniform(size=(height, width, channels)).astype(np.float32)
    return guide, src


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.sampled_from([(1, 1, 1, 20), (1, 17, 2, 3), (16, 9, 3, 4), (7, 17, 1, 0)]),
    seed=st.integers(0, 2**31),
)
def test_box_filter_equals_sliding_sum(sizes, seed):
    *shape, radius = sizes
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(
        box_filter(jnp.asarray(x), radius), reference_box_filter(x, radius), rtol=1e-5, atol=1e-4
    )


def test_box_filter_of_ones_counts_the_clipped_window():
    counts = box_filter(jnp.ones((3, 30, 40, 2)), 9)
    assert counts.shape == (3, 30, 40, 2)
    assert np.all(counts[:, 15, 20] == 19 * 19)
    assert np.all(counts[:, 0, 0] == 10 * 10)
    assert np.all(counts[:, 29, 20] == 10 * 19)


def test_box_filter_error_does_not_grow_with_the_image():
    x = np.random.default_rng(0).uniform(size=(8, 20_000, 1)).astype(np.float32)
    running = np.cumsum(np.pad(x[..., 0].astype(np.float64), ((0, 0), (10, 9))), axis=1)
    rows = running[:, 19:] - running[:, :-19]
    expected = np.stack([rows[max(i - 9, 0) : i + 10].sum(0) for i in range(8)])
    np.testing.assert_allclose(box_filter(jnp.asarray(x), 9)[..., 0], expected, rtol=2e-6)


@pytest.mark.parametrize("index", [0, 1])
def test_golden_guided_filter(golden, index):
    values = golden("guided_filter")

    def channels_last(name):
        return jnp.asarray(np.moveaxis(values[name], 1, -1))

    guide, src = channels_last(f"guide{index}"), channels_last(f"src{index}")
    for radius, eps in [(9, 0.001), (4, 0.01)]:
        np.testing.assert_allclose(
            guided_filter(guide, src, radius, eps),
            channels_last(f"out{index}_r{radius}_eps{eps}"),
            rtol=1e-5,
            atol=1e-5,
        )
    np.testing.assert_allclose(
        guided_filter(channels_last(f"guide_rgb{index}"), src, 9, 0.001),
        channels_last(f"out_rgb{index}_r9_eps0.001"),
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        box_filter(src, 9), channels_last(f"box{index}_r9"), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("guide_channels", "channels"), [(1, 1), (3, 1), (1, 2), (3, 3)])
@pytest.mark.parametrize(("height", "width", "radius"), [(24, 31, 3), (7, 40, 9)])
def test_guided_filter_equals_reference(guide_channels, channels, height, width, radius):
    guide, src = random_pair(height, width, guide_channels, channels)
    np.testing.assert_allclose(
        guided_filter(jnp.asarray(guide), jnp.asarray(src), radius, 1e-3),
        reference_guided_filter(guide, src, radius, 1e-3),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_guided_filter_keeps_constants(constant):
    guide, _ = random_pair(33, 47)
    filtered = guided_filter(jnp.asarray(guide), jnp.full((33, 47, 1), constant))
    np.testing.assert_allclose(filtered, constant, atol=2e-6)


def test_guided_filter_is_linear_in_src():
    guide, first = random_pair(33, 47)
    _, second = random_pair(33, 47, seed=1)
    combined = guided_filter(jnp.asarray(guide), jnp.asarray(2 * first - 3 * second))
    separate = 2 * guided_filter(jnp.asarray(guide), jnp.asarray(first)) - 3 * guided_filter(
        jnp.asarray(guide), jnp.asarray(second)
    )
    np.testing.assert_allclose(combined, separate, atol=1e-5)


def test_colour_guide_follows_an_edge_that_the_grey_guide_cannot_see():
    image = np.zeros((40, 40, 3), np.float32)
    image[:, :20, 0] = image[:, 20:, 2] = 0.9
    ramp = np.clip((np.arange(40) - 14) / 12, 0, 1).astype(np.float32)
    blurred = jnp.asarray(np.broadcast_to(ramp[None, :, None], (40, 40, 1)))
    colour = guided_filter(jnp.asarray(image), blurred)
    grey = guided_filter(grey_guide(jnp.asarray(image)), blurred)
    assert float(colour[20, 20, 0] - colour[20, 19, 0]) > 0.5
    assert abs(float(grey[20, 20, 0] - grey[20, 19, 0])) < 0.1


def test_grey_guide_is_the_mean_of_the_channels():
    image = jnp.asarray([[[0.2, 0.4, 0.9]]])
    np.testing.assert_allclose(grey_guide(image), [[[0.5]]], atol=1e-7)


def test_guided_filter_moves_a_blurred_edge_onto_the_image_edge():
    guide = np.zeros((40, 40, 1), np.float32)
    guide[:, 20:] = 1
    ramp = np.clip((np.arange(40) - 14) / 12, 0, 1).astype(np.float32)
    blurred = np.broadcast_to(ramp[None, :, None], guide.shape)
    filtered = guided_filter(jnp.asarray(guide), jnp.asarray(blurred))
    step = float(filtered[20, 20, 0] - filtered[20, 19, 0])
    assert step > 3 * float(blurred[20, 20, 0] - blurred[20, 19, 0])


def test_guided_filter_gradients():
    guide, src = random_pair(6, 7)
    check_grads(
        lambda g, s: guided_filter(jnp.asarray(g), jnp.asarray(s), 2, 1e-2),
        (jnp.asarray(guide), jnp.asarray(src)),
        order=1,
        modes=("fwd", "rev"),
        rtol=2e-2,
        atol=2e-2,
    )


def test_guided_filter_under_jit_vmap_and_leading_axes():
    guide, src = (jnp.asarray(np.stack([x] * 3)) for x in random_pair(12, 15))
    batched = guided_filter(guide, src, 4)
    np.testing.assert_allclose(batched, filters.guided_filter(guide, src, 4), atol=1e-6)
    mapped = jax.jit(jax.vmap(lambda g, s: guided_filter(g, s, 4)))(guide, src)
    np.testing.assert_allclose(mapped, batched, atol=1e-6)
    np.testing.assert_allclose(guided_filter(guide[0], src[0], 4), batched[0], atol=1e-6)


def test_guided_filter_computes_bfloat16_in_float32():
    guide, src = (jnp.asarray(x, jnp.bfloat16) for x in random_pair(40, 40))
    filtered = guided_filter(guide, src)
    assert filtered.dtype == jnp.float32
    exact = guided_filter(guide.astype(jnp.float32), src.astype(jnp.float32))
    np.testing.assert_array_equal(filtered, exact)


def test_errors_name_the_argument(unchecked_shapes):
    guide, src = (jnp.asarray(x) for x in random_pair(5, 5))
    with pytest.raises(ValueError, match="radius"):
        guided_filter(guide, src, radius=-1)
    with pytest.raises(ValueError, match="radius"):
        box_filter(src, -1)
    with pytest.raises(ValueError, match="eps"):
        guided_filter(guide, src, eps=0.0)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        guided_filter(jnp.ones((5, 5, 2)), src)
    with pytest.raises(ValueError, match="must agree"):
        guided_filter(jnp.ones((5, 6, 1)), src)


def test_numpy_arrays_of_double_precision_are_taken_as_they_come(unchecked_shapes):
    guide, src = (x.astype(np.float64) for x in random_pair(9, 11))
    np.testing.assert_allclose(
        filters.guided_filter(guide, src, 2),
        reference_guided_filter(guide, src, 2, 1e-3),
        atol=1e-5,
    )


@pytest.mark.slow
def test_the_filter_brings_back_outlines_that_patches_have_lost(reference_data):
    """Ground truth of 150 photographs reduced to patches of 8, 16 and 32 pixels, and refined."""
    folder = reference_data / "ECSSD"
    names = sorted(path.stem for path in (folder / "images").glob("*.jpg"))[:150]
    size = (320, 320)
    images, truths = [], []
    for name in names:
        image = Image.fromarray(read_image(folder / "images" / f"{name}.jpg"))
        truth = Image.fromarray(read_grey(folder / "ground_truth_mask" / f"{name}.png") > 127)
        images.append(np.asarray(image.resize(size, Image.Resampling.BILINEAR)))
        truths.append(np.asarray(truth.resize(size, Image.Resampling.NEAREST)))
    truth = np.stack(truths)
    refine = jax.jit(lambda image, mask: guided_filter(grey_guide(image), mask))
    found = []
    for patch in (8, 16, 32):
        count = 320 // patch
        coarse = truth.reshape(-1, count, patch, count, patch).mean((2, 4)) > 0.5
        coarse = coarse.repeat(patch, 1).repeat(patch, 2)
        refined = [
            refine(jnp.asarray(image, jnp.float32) / 255, jnp.asarray(mask, jnp.float32)[..., None])
            for image, mask in zip(images, coarse, strict=True)
        ]
        found += [iou(coarse, truth), iou(np.stack(refined)[..., 0] > 0.5, truth)]
    np.testing.assert_allclose(found, [0.9051, 0.9373, 0.8345, 0.8816, 0.7217, 0.7451], atol=2e-4)
