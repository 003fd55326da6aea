import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from sempart_jax.kernels.color_jitter import (
    adjust_hue,
    jitter,
    rgb_to_grayscale,
    solarize,
)

ORDERS = list(itertools.permutations(range(4)))


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def picture(shape=(9, 11, 3), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def gray(image: np.ndarray) -> np.ndarray:
    return (image @ np.array([0.2989, 0.587, 0.114]))[..., None]


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * image, 0, 1)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * image + (1 - factor) * gray(image).mean(), 0, 1)


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * image + (1 - factor) * gray(image), 0, 1)


def hue(image: np.ndarray, shift: float) -> np.ndarray:
    turned = np.empty_like(image)
    for place in np.ndindex(image.shape[:-1]):
        h, s, v = colorsys.rgb_to_hsv(*image[place].tolist())
        turned[place] = colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
    return turned


REFERENCES = (brightness, contrast, saturation, hue)


def close(actual, expected, atol=2e-6):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4, 3.0])
@pytest.mark.parametrize("operation", range(3))
def test_blends(operation, factor):
    image = picture()
    # The others leave the image as it is.
    factors = jnp.array([1.0, 1.0, 1.0, 0.0]).at[operation].set(factor)
    jittered = jitter(jnp.asarray(image), jnp.arange(4), factors)
    close(jittered, REFERENCES[operation](image.astype(np.float64), factor))


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.07, 1 / 3, 0.5])
def test_hue(shift):
    image = picture((17, 13, 3), seed=1)
    # Ties between channels, greys, black, white and pure colours, where the hue has cases.
    corners = np.array(list(itertools.product([0.0, 0.5, 1.0], repeat=3)), np.float32)
    for pixels in (image, corners[None]):
        close(adjust_hue(jnp.asarray(pixels), shift), hue(pixels.astype(np.float64), shift))


def test_hue_by_hand():
    red = jnp.array([[[1.0, 0.0, 0.0]]])
    close(adjust_hue(red, 1 / 3), [[[0, 1, 0]]], 1e-6)
    close(adjust_hue(red, -1 / 3), [[[0, 0, 1]]], 1e-6)
    close(adjust_hue(red, 0.5), [[[0, 1, 1]]], 1e-6)


def test_grayscale():
    image = picture()
    close(rgb_to_grayscale(jnp.asarray(image)), gray(image.astype(np.float64)), 1e-6)
    close(rgb_to_grayscale(jnp.eye(3)[None]), np.array([[[0.2989], [0.587], [0.114]]]), 1e-7)


def test_solarizing_inverts_what_pillow_inverts():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([values, values.T, values[::-1]], axis=-1)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(image), threshold=128)) / 255
    close(solarize(jnp.asarray(image / np.float32(255))), expected, 1e-7)
    close(solarize(jnp.array([[[0.5, 0.4999, 1.0]]])), [[[0.5, 0.4999, 0.0]]], 1e-7)


def test_a_stack_of_images_is_images_one_by_one():
    stack = jnp.asarray(picture((2, 3, 5, 7, 3)))
    whole = adjust_hue(stack, 0.3)
    for place in np.ndindex(2, 3):
        close(whole[place], adjust_hue(stack[place], 0.3), 1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_the_jitter(order):
    image = picture(seed=2)
    factors = np.array([1.35, 0.7, 1.2, 0.08], np.float32)
    expected = image.astype(np.float64)
    for operation in order:
        expected = REFERENCES[operation](expected, float(factors[operation]))
    jittered = jax.jit(jitter)(jnp.asarray(image), jnp.array(order), jnp.asarray(factors))
    close(jittered, expected, 5e-6)
