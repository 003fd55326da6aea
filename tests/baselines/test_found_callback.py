"""The refinement from within compiled steps equals the direct call, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sempart_jax.baselines.found_callback import _elsewhere, refined_in_step
from sempart_jax.baselines.found_refinement import refine_patch_masks
from sempart_jax.two_tricks.train_step import replicate
from tests.baselines.test_found_refinement import scene

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
