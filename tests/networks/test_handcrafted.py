import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.data.synthetic import synthetic_scene
from sempart_jax.networks import handcrafted
from sempart_jax.networks.handcrafted import (
    HandcraftedBackbone,
    random_fourier_features,
    smooth_patches,
)

# Compiled as one: op by op, each of the many small ones would compile on its own.
lab_from_srgb = jax.jit(handcrafted.lab_from_srgb)
patch_descriptors = jax.jit(handcrafted.patch_descriptors, static_argnums=(1, 2, 3, 4))
standardise_group = jax.jit(handcrafted.standardise_group, static_argnames="floor")
structure_tensor = jax.jit(handcrafted.structure_tensor, static_argnums=(1, 2))

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def normalise(image):
    return jnp.asarray((image - MEAN) / STD, jnp.float32)


@functools.cache
def jitted(backbone):
    return jax.jit(backbone.apply)


def backbone_keys(image, **attributes):
    """Keys `[B, h, w, D]` of RGB images in [0, 1]."""
    apply = jitted(HandcraftedBackbone(**attributes))
    return np.asarray(apply({"params": {}}, normalise(image))["keys"])


def lab_reference(image):
    """Lab in float64; the matrix is derived from sRGB's chromaticities and the D65 white point."""
    white = np.array([0.95047, 1.0, 1.08883])
    chromaticities = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]])
    primaries = np.array([[x / y, 1.0, (1.0 - x - y) / y] for x, y in chromaticities]).T
    matrix = primaries * np.linalg.solve(primaries, white)
    linear = np.empty_like(image)
    low = image <= 0.04045
    linear[low] = image[low] / 12.92
    linear[~low] = np.power((image[~low] + 0.055) / 1.055, 2.4)
    t = linear @ matrix.T / white
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


def test_lab_of_known_colors():
    rgb = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    expected = [
        [0.0, 0.0, 0.0],
        [100.0, 0.0, 0.0],
        [53.389, 0.0, 0.0],
        [53.241, 80.092, 67.203],
        [87.735, -86.183, 83.179],
        [32.297, 79.188, -107.860],
    ]
    np.testing.assert_allclose(lab_from_srgb(jnp.asarray(rgb, jnp.float32)), expected, atol=5e-3)


def test_lab_against_float64_reference():
    levels = np.concatenate([np.linspace(0.0, 0.1, 9), np.linspace(0.12, 1.0, 9)])
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    actual = lab_from_srgb(jnp.asarray(rgb, jnp.float32))
    np.testing.assert_allclose(actual, lab_reference(rgb), atol=3e-3)


def test_lab_clips_out_of_gamut():
    wild = jnp.array([[-0.2, 0.5, 1.3]])
    np.testing.assert_array_equal(lab_from_srgb(wild), lab_from_srgb(jnp.clip(wild, 0.0, 1.0)))


def structure_tensor_reference(lightness, patch_size, sigma):
    reach = int(np.ceil(3 * sigma))
    positions = np.arange(-reach, reach + 1)
    gaussian = np.exp(-0.5 * (positions / sigma) ** 2)
    gaussian /= gaussian.sum()
    derivative = gaussian * positions / (gaussian * positions**2).sum() * sigma

    def correlate(weights_rows, weights_columns):
        rows = scipy.ndimage.correlate1d(lightness, weights_rows, axis=0, mode="nearest")
        return scipy.ndimage.correlate1d(rows, weights_columns, axis=1, mode="nearest")

    g_x, g_y = correlate(gaussian, derivative), correlate(derivative, gaussian)
    j_xx, j_yy, j_xy = (block_mean(g, patch_size) for g in (g_x**2, g_y**2, g_x * g_y))
    norm = np.sqrt(j_xx + j_yy)
    scale = np.maximum(norm, 0.01)
    return np.stack([norm, (j_xx - j_yy) / scale, 2 * j_xy / scale], -1)


def block_mean(plane, patch_size):
    height, width = plane.shape
    return np.array(
        [
            [
                plane[i : i + patch_size, j : j + patch_size].mean()
                for j in range(0, width, patch_size)
            ]
            for i in range(0, height, patch_size)
        ]
    )


@pytest.mark.parametrize(("patch_size", "sigma"), [(8, 1.0), (8, 2.0), (4, 0.5)])
def test_structure_tensor_against_float64_reference(patch_size, sigma):
    lightness = 100 * np.random.default_rng(0).random((24, 40))
    actual = structure_tensor(
        jnp.asarray(lightness[None, :, :, None], jnp.float32), patch_size, sigma
    )
    expected = structure_tensor_reference(lightness, patch_size, sigma)
    np.testing.assert_allclose(actual[0], expected, atol=2e-4)


def test_structure_tensor_of_a_ramp_is_its_slope():
    down, right = 0.6, -1.1
    rows, columns = np.indices((48, 48))
    ramp = 50 + down * rows + right * columns
    inner = structure_tensor(jnp.asarray(ramp[None, :, :, None], jnp.float32), 8, 2.0)[
        0, 1:-1, 1:-1
    ]
    slope = np.hypot(down, right)
    theta = np.arctan2(down, right)
    expected = 2.0 * slope * np.array([1.0, np.cos(2 * theta), np.sin(2 * theta)])
    np.testing.assert_allclose(inner, np.broadcast_to(expected, inner.shape), atol=1e-3)


def test_smoothing_is_binomial():
    values = np.random.default_rng(0).random((5, 7))
    window = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = scipy.ndimage.correlate(values, window, mode="nearest")
    actual = smooth_patches(jnp.asarray(values[None, :, :, None], jnp.float32))
    np.testing.assert_allclose(actual[0, :, :, 0], expected, atol=1e-6)


def border_median_reference(group):
    return np.median(np.concatenate([group[0], group[-1], group[1:-1, 0], group[1:-1, -1]]), axis=0)


def test_standardised_group_has_unit_spread_and_keeps_its_shape():
    values = 5 + 3 * np.random.default_rng(0).random((2, 6, 5, 3))
    actual = np.asarray(standardise_group(jnp.asarray(values, jnp.float32), floor=0.0))
    for group in actual:
        np.testing.assert_allclose(border_median_reference(group), 0.0, atol=1e-6)
    np.testing.assert_allclose(actual.var(axis=(1, 2)).sum(-1), 1.0, rtol=1e-5)
    ratio = (actual[0, 0, 0] - actual[0, 1, 1]) / (values[0, 0, 0] - values[0, 1, 1])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_floor_keeps_faint_noise_small():
    noise = jnp.asarray(0.01 * np.random.default_rng(0).standard_normal((1, 8, 8, 3)), jnp.float32)
    assert np.abs(standardise_group(noise, floor=1.0)).max() < 0.05


def test_descriptors_against_float64_reference():
    generator = np.random.default_rng(1)
    image = scipy.ndimage.gaussian_filter(generator.random((32, 48, 3)), (2, 2, 0))
    image = (image - image.min()) / np.ptp(image)
    lab = lab_reference(image)
    patches = lab.reshape(4, 8, 6, 8, 3).transpose(0, 2, 1, 3, 4).reshape(4, 6, 64, 3)
    texture = np.concatenate(
        [structure_tensor_reference(lab[..., 0], 8, sigma) for sigma in (1.0, 2.0)], axis=-1
    )
    window = (np.outer([1, 2, 1], [1, 2, 1]) / 16)[..., None]
    groups = [
        patches.mean(axis=2),
        scipy.ndimage.correlate(patches.std(axis=2), window, mode="nearest"),
        scipy.ndimage.correlate(texture, window, mode="nearest"),
    ]
    expected = []
    for weight, group in zip((1.0, 0.4, 0.7), groups, strict=True):
        spread = np.sqrt(group.var(axis=(0, 1)).sum() + 1.0)
        expected.append(weight * (group - border_median_reference(group)) / spread)
    actual = patch_descriptors(jnp.asarray(image[None], jnp.float32), 8, 1.0, 0.4, 0.7)
    np.testing.assert_allclose(actual[0], np.concatenate(expected, axis=-1), atol=5e-4)


def test_fourier_features_approximate_the_gaussian_kernel():
    generator = np.random.default_rng(0)
    width, bandwidth = 384, 1.3
    points = generator.standard_normal((20, 12)) * generator.uniform(0.0, 0.6, (20, 1))
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    above = np.triu_indices(20, 1)
    kernel = np.exp(-squared / (2 * bandwidth**2))[above]
    assert kernel.min() < 0.2
    assert kernel.max() > 0.7
    scores = []
    for seed in range(100):
        features = np.asarray(
            random_fourier_features(jnp.asarray(points, jnp.float32), width, bandwidth, seed)
        )
        scores.append(((features @ features.T)[above] - kernel) * np.sqrt(width) / (1 - kernel**2))
    # Unbiased, and of the spread that the theory gives.
    assert np.abs(np.mean(scores)) < 0.1
    assert 0.9 < np.std(scores) < 1.1


def test_fourier_features_need_an_even_width():
    with pytest.raises(ValueError, match=r"even and positive.*7"):
        random_fourier_features(jnp.zeros((2, 3)), 7, 1.0, 0)


def test_keys_are_the_lifted_descriptors_of_the_image_before_normalisation():
    image = np.random.default_rng(0).random((1, 32, 32, 3))
    descriptors = patch_descriptors(jnp.asarray(image, jnp.float32), 8, 0.9, 0.3, 0.2)
    expected = random_fourier_features(descriptors, 64, 1.1, 5)
    actual = backbone_keys(
        image,
        width=64,
        bandwidth=1.1,
        color_weight=0.9,
        contrast_weight=0.3,
        texture_weight=0.2,
        seed=5,
    )
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_keys_have_unit_norm():
    keys = backbone_keys(np.random.default_rng(0).random((2, 32, 40, 3)))
    assert keys.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(keys, axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_constant_image_has_finite_equal_keys(level):
    keys = backbone_keys(np.full((1, 24, 24, 3), level))
    assert np.isfinite(keys).all()
    np.testing.assert_allclose(keys, np.broadcast_to(keys[:, :1, :1], keys.shape), atol=1e-3)


def test_ground_has_the_same_key_in_every_image():
    images = np.empty((2, 64, 64, 3))
    images[:] = np.array([[0.8, 0.3, 0.2], [0.2, 0.5, 0.7]])[:, None, None]
    images[:, 24:40, 24:48] = np.array([[0.1, 0.8, 0.3], [0.9, 0.9, 0.4]])[:, None, None]
    images += np.random.default_rng(0).normal(0.0, 0.01, images.shape)
    first, second = backbone_keys(images)
    assert (first[0] @ second[0].T).min() > 0.9
    assert (first[4, 4] @ second[0].T).max() < 0.4


def test_keys_do_not_depend_on_the_rest_of_the_batch():
    generator = np.random.default_rng(0)
    image = generator.random((1, 32, 32, 3))
    others = generator.random((2, 32, 32, 3)) ** 3
    alone = backbone_keys(image)
    np.testing.assert_array_equal(alone, backbone_keys(image))
    np.testing.assert_allclose(backbone_keys(np.concatenate([others, image]))[2:], alone, atol=1e-5)


def test_keys_move_with_the_image_by_whole_patches():
    image = np.full((1, 96, 96, 3), 0.5)
    image[:, 32:64, 32:64] = np.random.default_rng(0).random((32, 32, 3))
    moved = np.roll(image, (8, -16), axis=(1, 2))
    expected = np.roll(backbone_keys(image), (1, -2), axis=(1, 2))
    np.testing.assert_allclose(backbone_keys(moved), expected, atol=2e-5)


@pytest.mark.parametrize(
    "difference", ["color", "texture"], ids=["same texture", "same mean color"]
)
def test_two_regions_are_told_apart_at_the_threshold_of_the_loss(difference):
    rows, columns = np.indices((64, 128))
    left = columns < 64
    fine = np.where((rows + columns) % 4 < 2, 0.1, -0.1)
    stripes = np.where(columns % 8 < 4, 0.35, -0.35)
    if difference == "color":
        image = np.where(left[..., None], [0.6, 0.4, 0.3], [0.3, 0.4, 0.6]) + fine[..., None]
    else:
        image = np.repeat(np.where(left, 0.5 + fine, 0.5 + stripes)[..., None], 3, axis=-1)
    noise = np.random.default_rng(0).normal(0.0, 0.01, image.shape)
    keys = backbone_keys(np.clip(image + noise, 0, 1)[None])[0].reshape(8, 16, -1)
    # Patches at the seam hold the statistics of both sides.
    one, other = keys[:, :6].reshape(48, -1), keys[:, 10:].reshape(48, -1)
    tau = 0.4
    assert (one @ one.T).min() > tau
    assert (other @ other.T).min() > tau
    assert (one @ other.T).max() < tau


def spectral_split(keys, tau=0.4, eps=1e-6):
    """Second generalised eigenvector of the loss's affinity, cut at its mean; small side True."""
    height, width, _ = keys.shape
    flat = keys.reshape(height * width, -1).astype(np.float64)
    affinity = np.where(flat @ flat.T > tau, 1.0, eps)
    degree = np.diag(affinity.sum(axis=1))
    _, vectors = scipy.linalg.eigh(degree - affinity, degree, subset_by_index=[1, 1])
    side = (vectors > vectors.mean()).reshape(height, width)
    return side if side.mean() < 0.5 else ~side


def test_normalized_cut_of_synthetic_scenes_finds_their_objects():
    scenes = [synthetic_scene(np.random.default_rng([0, index]), 96) for index in range(20)]
    keys = backbone_keys(np.stack([image for image, _ in scenes]) / 255)
    scores = []
    for key, (_, mask) in zip(keys, scenes, strict=True):
        wanted = block_mean(mask.astype(float), 8) > 0.5
        found = spectral_split(key)
        scores.append((found & wanted).sum() / (found | wanted).sum())
    assert np.mean(scores) > 0.9


@given(
    patch_size=st.sampled_from([4, 8, 16]),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    batch=st.integers(1, 3),
    half_width=st.integers(1, 200),
)
@settings(deadline=None, max_examples=6)
def test_shapes(patch_size, grid, batch, half_width):
    backbone = HandcraftedBackbone(patch_size=patch_size, width=2 * half_width)
    image = jax.ShapeDtypeStruct(
        (batch, grid[0] * patch_size, grid[1] * patch_size, 3), jnp.float32
    )
    keys = jax.eval_shape(backbone.apply, {"params": {}}, image)["keys"]
    assert keys.shape == (batch, *grid, 2 * half_width)
    assert keys.dtype == jnp.float32


def test_one_patch_alone_is_finite():
    assert np.isfinite(backbone_keys(np.random.default_rng(0).random((1, 8, 8, 3)))).all()


def test_there_are_no_parameters():
    assert HandcraftedBackbone().init(jax.random.key(0), jnp.zeros((1, 16, 16, 3))) == {}


def test_strict_dtype_promotion():
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(HandcraftedBackbone().apply, {"params": {}}, jnp.zeros((1, 16, 16, 3)))


def test_size_that_the_patch_does_not_divide():
    with pytest.raises(ValueError, match="8 pixels do not divide the image of 20 x 24"):
        HandcraftedBackbone().apply({"params": {}}, jnp.zeros((1, 20, 24, 3)))
