"""FOUND's objective on a batch as the training step gives it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax import lax
from jax.test_util import check_grads

from sempart_jax.baselines.bilateral import bilateral_solver
from sempart_jax.baselines.found import FoundDecoder, background_mask
from sempart_jax.baselines.found_objective import (
    FoundObjective,
    _elsewhere,
    decoder_loss,
    refine_patch_masks,
    refined_in_step,
)
from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.train_step import replicate
from sempart_jax.two_tricks.vit import VisionTransformer


@pytest.fixture(scope="module")
def small():
    network = HeadNetwork(
        VisionTransformer(patch_size=4, width=16, depth=1, num_heads=2), FoundDecoder(patch_size=4)
    )
    pixels = np.full((3, 24, 24, 3), 40, np.uint8)
    pixels[0, 4:16, 8:20] = (200, 120, 90)
    pixels[1, 8:24, 2:12] = (120, 210, 90)
    pixels[2, :, :9] = (90, 60, 180)
    image = jnp.asarray(pixels, jnp.float32) / 255
    frozen = jax.jit(network.backbone.init)(jax.random.key(0), normalize(image))["params"]
    return network, frozen, network.init(jax.random.key(1), frozen, 24), image, pixels


def mean_cross_entropy(logits, target):
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0, logits) - target * logits))


@pytest.mark.parametrize("step", [0, 9, 10])
def test_terms_in_both_phases(small, step):
    network, frozen, variables, image, pixels = small
    objective = FoundObjective(tau=0.2, background_steps=10, refinement_weight=0.5, self_weight=3.0)
    total, terms, student = jax.jit(
        lambda step: objective.evaluate(
            network, frozen, variables, Examples(image), keys=jnp.zeros(3), step=step
        )
    )(jnp.asarray(step))
    apply = jax.jit(network.backbone.apply, static_argnames="class_attention")
    features = apply({"params": frozen}, normalize(image), class_attention=True)
    background = background_mask(features["keys"], features["class_attention"], 0.2)
    logits = variables["params"]["projection"]
    logits = (features["keys"] @ logits["kernel"])[..., 0] + logits["bias"][0]
    own = np.asarray(logits) > 0
    expected = {
        "refinement": mean_cross_entropy(logits, refine_patch_masks(pixels, own)),
        "background": mean_cross_entropy(
            logits, refine_patch_masks(pixels, ~np.asarray(background))
        ),
        "self": mean_cross_entropy(logits, own),
    }
    expected["self" if step < 10 else "background"] = 0.0
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(
        total,
        0.5 * expected["refinement"] + expected["background"] + 3 * expected["self"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        student.coarse[..., 0], 1 / (1 + np.exp(-np.asarray(logits))), rtol=1e-5
    )
    assert student.fine.shape == (3, 24, 24, 1)


def test_the_decoder_alone_is_trained(small):
    network, frozen, variables, image, _ = small

    def total(frozen, variables):
        return (
            FoundObjective()
            .evaluate(
                network, frozen, variables, Examples(image), keys=jnp.zeros(3), step=jnp.asarray(0)
            )
            .total
        )

    frozen_gradient, gradient = jax.jit(jax.grad(total, (0, 1)))(frozen, variables)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen_gradient))
    assert np.any(gradient["params"]["projection"]["kernel"])


def cross_entropy(logits, target):
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return -np.mean(np.where(target, np.log(probability), np.log1p(-probability)))


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(2, 4, 5)).astype(np.float32)
    masks = rng.random((2, 2, 4, 5)) < 0.5
    return jnp.asarray(logits), jnp.asarray(masks[0]), jnp.asarray(masks[1])


@pytest.mark.parametrize("step", [0, 99, 100, 5000])
def test_against_numpy(arrays, step):
    logits, refined, complement = arrays
    total, terms = jax.jit(decoder_loss)(logits, refined, complement, jnp.int32(step))
    expected = {
        "refinement": cross_entropy(logits, refined),
        "background": cross_entropy(logits, complement) if step < 100 else 0.0,
        "self": cross_entropy(logits, logits > 0) if step >= 100 else 0.0,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5)
    np.testing.assert_allclose(
        total,
        1.5 * expected["refinement"] + expected["background"] + 4.0 * expected["self"],
        rtol=1e-5,
    )
    assert total.dtype == jnp.float32


def test_weights_and_phase_can_be_chosen(arrays):
    logits, refined, complement = arrays

    def total(step):
        return decoder_loss(
            *arrays, jnp.int32(step), background_steps=3, refinement_weight=0.5, self_weight=2.0
        )[0]

    refinement = 0.5 * cross_entropy(logits, refined)
    np.testing.assert_allclose(total(2), refinement + cross_entropy(logits, complement), rtol=1e-5)
    np.testing.assert_allclose(
        total(3), refinement + 2.0 * cross_entropy(logits, logits > 0), rtol=1e-5
    )


@pytest.mark.parametrize("step", [99, 100])
def test_gradient(arrays, step):
    logits, refined, complement = arrays

    @jax.jit
    def total(logits):
        return decoder_loss(logits, refined, complement, jnp.int32(step))[0]

    check_grads(total, (logits,), order=1, modes=("rev",), eps=1e-2, rtol=1e-2, atol=1e-4)
    # dL/dp = sum over terms of weight * (sigmoid(p) - target) / number of patches
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    other = complement if step < 100 else logits > 0
    weight = 1.0 if step < 100 else 4.0
    expected = 1.5 * (probability - refined) + weight * (probability - other)
    np.testing.assert_allclose(jax.grad(total)(logits), expected / logits.size, atol=1e-7)


def test_background_is_not_looked_at_in_the_second_phase(arrays):
    logits, refined, complement = arrays
    first, second = (
        decoder_loss(logits, refined, target, jnp.int32(100))
        for target in (complement, ~complement)
    )
    np.testing.assert_array_equal(first[0], second[0])


def test_large_logits_stay_finite():
    logits = jnp.array([[[-200.0, 200.0]]])
    wrong = jnp.array([[[True, False]]])
    for step in (0, 100):
        compute = jax.jit(jax.value_and_grad(decoder_loss, has_aux=True))
        (total, _), gradient = compute(logits, wrong, wrong, jnp.int32(step))
        assert np.isfinite(total)
        assert np.all(np.isfinite(gradient))


def test_both_phases_are_one_program(arrays):
    jitted = jax.jit(decoder_loss)
    for step in (0, 99, 100):
        jitted(*arrays, jnp.int32(step))
    assert jitted._cache_size() == 1


# Images as large as in training: with these, JAX' own callback waits for ever on all CPU devices.
SIDE = 224


def draw(count, side=SIDE):
    pairs = [scene(seed, side, side) for seed in range(count)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    return images, masks, refine_patch_masks(images, masks)


def test_compiled_on_one_device():
    images, masks, expected = draw(3, 96)
    assert (expected != masks).any()
    refined = jax.jit(refined_in_step)(images.astype(np.float32) / 255, masks)
    assert refined.dtype == jnp.bool_
    np.testing.assert_array_equal(refined, expected)


def test_pixels_are_rounded_to_the_nearest():
    images, masks, expected = draw(2, 96)
    # Within [0, 1]: black and white cannot be left further.
    nudged = np.clip(images + 0.49 * np.where(np.arange(96)[:, None] % 2, 1, -1)[..., None], 0, 255)
    refined = jax.jit(refined_in_step)((nudged / 255).astype(np.float32), masks)
    np.testing.assert_array_equal(refined, expected)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("device_count", [2, 8])
def test_mapped_over_devices_under_a_gradient(device_count):
    images, masks, expected = draw(8)
    devices = jax.local_devices()[:device_count]

    def step(scale, images, masks, phase):
        images = images.astype(jnp.float32) / 255

        def loss(scale):
            # Of the network's output and under a condition, as in training
            logits = scale * (masks.astype(jnp.float32) - 0.5)
            refined = refined_in_step(images, logits > 0)
            other = lax.cond(phase < 1, lambda: refined_in_step(images, ~masks), lambda: masks)
            return jnp.mean(jnp.where(refined, logits, 0.0)), (refined, other)

        gradient, found = jax.grad(loss, has_aux=True)(scale)
        return scale - lax.pmean(gradient, "device"), found

    mapped = jax.pmap(
        step, axis_name="device", in_axes=(0, 0, 0, None), donate_argnums=(0,), devices=devices
    )
    scale = replicate(jnp.ones(()), devices)
    images_of, masks_of = (
        array.reshape(device_count, -1, *array.shape[1:]) for array in (images, masks)
    )
    for phase, other in ((0, refine_patch_masks(images, ~masks)), (1, masks)):
        scale, found = mapped(scale, images_of, masks_of, phase)
        np.testing.assert_array_equal(np.asarray(found[0]).reshape(masks.shape), expected)
        np.testing.assert_array_equal(np.asarray(found[1]).reshape(masks.shape), other)
    # d/ds mean(refined s (m - 1/2)), averaged over devices and subtracted twice
    gradient = np.mean(expected * (masks - 0.5))
    np.testing.assert_allclose(np.asarray(scale), 1 - 2 * gradient, rtol=1e-5)


def test_way_of_other_platforms():
    # Small arrays are safe on a single CPU device.
    images, masks, expected = draw(2, 64)
    np.testing.assert_array_equal(jax.jit(_elsewhere)(images, masks), expected)


def resize(mask, height, width):
    """Sample at pixel centres, clamped at the border; one output pixel at a time."""
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * mask.shape[0] / height - 0.5, 0), mask.shape[0] - 1)
            x = min(max((j + 0.5) * mask.shape[1] / width - 0.5, 0), mask.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, mask.shape[0] - 1), min(left + 1, mask.shape[1] - 1)
            upper = mask[top, left] * (1 - x + left) + mask[top, right] * (x - left)
            lower = mask[bottom, left] * (1 - x + left) + mask[bottom, right] * (x - left)
            result[i, j] = upper * (1 - y + top) + lower * (y - top)
    return result


def fill(mask):
    """Background is what is joined to the border by sides of pixels."""
    labels, _ = scipy.ndimage.label(np.pad(~mask, 1, constant_values=True))
    return (labels != labels[0, 0])[1:-1, 1:-1]


def reference(image, mask):
    enlarged = resize(mask.astype(np.float64), *image.shape[:2])
    binary = fill(bilateral_solver(image, enlarged, 16, 16, 8) > 0.5)
    enlarged = enlarged > 0.5
    union = (enlarged | binary).sum()
    overlap = (enlarged & binary).sum() / union if union else 0.0
    return (resize(binary.astype(np.float64), *mask.shape) > 0 if overlap > 0.5 else mask), overlap


def scene(seed, height=96, width=128):
    """Blobs of two colours under noise, and a blob's rough mask."""
    rng = np.random.default_rng(seed)
    blobs = scipy.ndimage.gaussian_filter(rng.normal(size=(height, width)), 10)
    inside = blobs > np.quantile(blobs, 0.6)
    colours = rng.integers(0, 256, (2, 3))
    image = colours[inside.astype(int)] + rng.normal(scale=12, size=(height, width, 3))
    patches = inside.reshape(height // 8, 8, width // 8, 8).mean((1, 3)) > 0.5
    return np.clip(image, 0, 255).astype(np.uint8), patches ^ (rng.random(patches.shape) < 0.1)


def test_refinement_against_numpy():
    pairs = [scene(seed) for seed in range(6)]
    # A mask of noise overlaps little with what the solver makes of it.
    pairs += [(pairs[0][0], np.random.default_rng(9).random((12, 16)) < 0.4)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    refined = refine_patch_masks(images, masks)
    expected, overlaps = zip(*(reference(*pair) for pair in pairs), strict=True)
    assert refined.dtype == bool
    assert min(overlaps) < 0.5 < max(overlaps), "both ways out must be walked"
    assert sum((before != after).any() for before, after in zip(masks, refined, strict=True)) > 3
    np.testing.assert_array_equal(refined, np.stack(expected))


def test_sides_that_no_patch_divides():
    image, mask = scene(1, 88, 120)
    mask = mask[:7, :9]
    np.testing.assert_array_equal(
        refine_patch_masks(image[None], mask[None])[0], reference(image, mask)[0]
    )


def uniform(height=64, width=64):
    return np.full((height, width, 3), 90, np.uint8)


def rectangle(top, bottom, left, right, height=8, width=8):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def paint(mask, foreground=(220, 30, 30)):
    image = uniform(8 * mask.shape[0], 8 * mask.shape[1])
    image[mask.repeat(8, 0).repeat(8, 1)] = foreground
    return image


def test_mask_grows_to_the_border_of_its_colour():
    # 12 of 16 patches of a square, and one outside
    square = rectangle(2, 6, 2, 6)
    mask = square & ~rectangle(2, 3, 2, 6)
    mask[3, 6] = True
    np.testing.assert_array_equal(refine_patch_masks(paint(square)[None], mask[None])[0], square)


def test_hole_is_filled():
    square, hole = rectangle(2, 10, 2, 10, 12, 12), rectangle(5, 7, 5, 7, 12, 12)
    # The hole has the background's colour, so that the solver leaves it.
    image = paint(square & ~hole)
    mask = square & ~hole
    solved = bilateral_solver(image, mask.repeat(8, 0).repeat(8, 1).astype(np.float32), 16, 16, 8)
    assert not (solved[44:52, 44:52] > 0.5).any()
    np.testing.assert_array_equal(refine_patch_masks(image[None], mask[None])[0], square)


def test_bay_at_the_border_is_no_hole():
    mask = rectangle(0, 8, 2, 10, 12, 12) & ~rectangle(0, 4, 5, 7, 12, 12)
    np.testing.assert_array_equal(refine_patch_masks(paint(mask)[None], mask[None])[0], mask)


def test_mask_that_its_refinement_does_not_overlap_stays():
    # Scattered over one colour, it is smoothed to less than a half everywhere.
    mask = np.zeros((8, 8), bool)
    mask[::3, ::3] = True
    np.testing.assert_array_equal(refine_patch_masks(uniform()[None], mask[None])[0], mask)


def test_overlap_of_exactly_a_half_is_none(monkeypatch):
    mask = rectangle(0, 8, 0, 4)
    answer = np.zeros((64, 64))

    def solved(image, target, **sigmas):
        assert sigmas == {"sigma_spatial": 16, "sigma_luma": 16, "sigma_chroma": 8}
        return answer

    monkeypatch.setattr("sempart_jax.baselines.found_objective.bilateral_solver", solved)
    answer[:, :16] = 1.0
    np.testing.assert_array_equal(refine_patch_masks(uniform()[None], mask[None])[0], mask)
    answer[0, 16] = 1.0
    np.testing.assert_array_equal(
        refine_patch_masks(uniform()[None], mask[None])[0], rectangle(0, 8, 0, 2)
    )


def test_a_patch_is_foreground_where_any_of_its_centre_is(monkeypatch):
    mask = rectangle(0, 8, 0, 4)
    answer = mask.repeat(8, 0).repeat(8, 1).astype(np.float64)
    # Of patch (5, 6) one of the four pixels around its centre, of (1, 6) one beside them.
    answer[44, 51] = answer[13, 51] = 1.0
    monkeypatch.setattr(
        "sempart_jax.baselines.found_objective.bilateral_solver", lambda *_, **__: answer
    )
    expected = mask.copy()
    expected[5, 6] = True
    np.testing.assert_array_equal(refine_patch_masks(uniform()[None], mask[None])[0], expected)


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_stay(value):
    image, _ = scene(0)
    mask = np.full((12, 16), value)
    np.testing.assert_array_equal(refine_patch_masks(image[None], mask[None])[0], mask)


def test_foreground_of_most_of_the_image_keeps_its_refinement():
    # 70 of 100 patches, less two
    object_ = rectangle(0, 10, 0, 7, 10, 10)
    mask = object_.copy()
    mask[4:6, 6] = False
    np.testing.assert_array_equal(refine_patch_masks(paint(object_)[None], mask[None])[0], object_)


def test_images_are_refined_one_by_one():
    pairs = [scene(seed) for seed in range(3)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    before = masks.copy()
    together = refine_patch_masks(images, masks)
    alone = [refine_patch_masks(image[None], mask[None])[0] for image, mask in pairs]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_array_equal(masks, before)


def test_no_images_have_no_masks():
    refined = refine_patch_masks(np.zeros((0, 16, 16, 3), np.uint8), np.zeros((0, 2, 2), bool))
    assert refined.shape == (0, 2, 2)
