import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.kernels.blur import gaussian_blur, gaussian_kernel
from tests.kernels.blur_reference import blurred, kernel


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def picture(shape=(14, 17, 3), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def close(actual, expected, atol=1e-6):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_kernel(sigma):
    weights = gaussian_kernel(sigma, 6)
    assert weights.dtype == jnp.float32
    close(weights, kernel(sigma, 6), 1e-7)


def test_a_tiny_sigma_leaves_one_pixel():
    close(gaussian_kernel(1e-3, 2), [0, 0, 1, 0, 0], 0)
    np.testing.assert_array_equal(gaussian_blur(jnp.asarray(picture()), 1e-3, radius=2), picture())
    np.testing.assert_array_equal(gaussian_blur(jnp.asarray(picture()), 2.0, radius=0), picture())


@pytest.mark.parametrize(("sigma", "radius"), [(0.3, 1), (1.0, 3), (2.0, 6)])
def test_blur(sigma, radius):
    run = jax.jit(lambda image, sigma: gaussian_blur(image, sigma, radius=radius))
    close(run(jnp.asarray(picture()), sigma), blurred(picture(), sigma, radius))


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 6))
def test_images_smaller_than_the_kernel(height, width, channels, radius):
    image = picture((height, width, channels))
    done = gaussian_blur(jnp.asarray(image), 1.5, radius=radius)
    close(done, blurred(image, 1.5, radius))
    assert -1e-6 < done.min() <= done.max() < 1 + 1e-6


def test_each_image_may_have_its_own_sigma():
    images, sigmas = picture((3, 14, 17, 3)), np.array([0.1, 0.8, 2.0], np.float32)
    run = jax.jit(jax.vmap(lambda image, sigma: gaussian_blur(image, sigma, radius=6)))
    for done, image, sigma in zip(
        run(jnp.asarray(images), jnp.asarray(sigmas)), images, sigmas.tolist(), strict=True
    ):
        close(done, blurred(image, sigma, 6))


def test_a_stack_of_images_is_images_one_by_one():
    stack = picture((2, 3, 8, 9, 3))
    done = gaussian_blur(jnp.asarray(stack), 1.1, radius=4)
    for place in np.ndindex(2, 3):
        close(done[place], blurred(stack[place], 1.1, 4))


def test_a_constant_stays_constant():
    close(gaussian_blur(jnp.full((9, 11, 3), 0.7), 1.9, radius=6), 0.7)
