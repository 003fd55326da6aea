"""The 3x3 convolution with its own weight gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from sempart_jax.kernels import convolution
from sempart_jax.kernels.convolution import convolve_3x3


def reference(x, kernel):
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )


def inputs(height=5, width=7, channels=3, features=4, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, height, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, features)).astype(np.float32)
    return x, kernel


@settings(deadline=None, max_examples=10)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 4),
    features=st.integers(1, 4),
)
def test_value_and_gradients_equal_autodiff_of_lax(height, width, channels, features):
    x, kernel = map(jnp.asarray, inputs(height, width, channels, features))
    np.testing.assert_allclose(
        convolve_3x3(x, kernel), reference(np.asarray(x), np.asarray(kernel)), atol=1e-4
    )

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def gradients(convolve):
        return jax.grad(lambda *a: jnp.sum(jnp.sin(convolve(*a))), argnums=(0, 1))(x, kernel)

    for ours, expected in zip(gradients(convolve_3x3), gradients(plain), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_gradients_by_finite_differences():
    x, kernel = inputs(4, 4, 2, 2, 1)
    check_grads(
        jax.jit(lambda a, b: convolve_3x3(a, b)),
        (jnp.asarray(x), jnp.asarray(kernel)),
        order=1,
        modes=("rev",),
        rtol=1e-2,
        atol=1e-2,
    )


@pytest.mark.parametrize("pixels", [1, 10, 15, 1000])
def test_both_weight_gradients_agree_however_the_rows_are_divided(monkeypatch, pixels):
    monkeypatch.setattr(convolution, "_PIXELS_OF_A_BLOCK", pixels)
    x, kernel = map(jnp.asarray, inputs(7, 5))
    cotangent = jax.random.normal(jax.random.key(0), (2, 7, 5, 4))
    np.testing.assert_allclose(
        convolution._kernel_gradient_by_taps(x, cotangent, kernel),
        convolution._kernel_gradient_by_convolution(x, cotangent, kernel),
        atol=1e-4,
    )


@pytest.mark.parametrize("by_taps", [True, False])
def test_a_float32_kernel_of_bfloat16_images_has_a_float32_gradient(by_taps):
    """Both ways, as one of them is of no CPU."""
    x, kernel = inputs(24, 20, 8, 6)
    narrow, narrow_kernel = (jnp.asarray(a, jnp.bfloat16) for a in (x, kernel))
    together, pull = jax.vjp(convolve_3x3, narrow, jnp.asarray(kernel))
    np.testing.assert_array_equal(together, convolve_3x3(narrow, narrow_kernel))
    cotangent = jax.random.normal(jax.random.key(0), together.shape, jnp.bfloat16)
    x_gradient, kernel_gradient = pull(cotangent)
    assert (x_gradient.dtype, kernel_gradient.dtype) == (jnp.bfloat16, jnp.float32)
    if not by_taps:
        kernel_gradient = convolution._kernel_gradient_by_convolution(
            narrow, cotangent, jnp.asarray(kernel)
        )
        assert kernel_gradient.dtype == jnp.float32
    # The same numbers in float32: what differs is how products are summed.
    expected = convolution._kernel_gradient_by_convolution(
        narrow.astype(jnp.float32), cotangent.astype(jnp.float32), jnp.asarray(kernel)
    )
    error = np.abs(kernel_gradient - expected).max() / np.abs(expected).max()
    # A sum rounded to bfloat16 is off by 2^-9 of itself at most; one in float32 by far less.
    assert error < (1e-6 if by_taps else 2**-8)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_under_vmap_and_jit_and_in_bfloat16(dtype):
    x, kernel = (jnp.asarray(a, dtype) for a in inputs())
    together = convolve_3x3(x, kernel)
    assert together.dtype == dtype
    separate = jax.jit(jax.vmap(lambda image: convolve_3x3(image[None], kernel)[0]))(x)
    np.testing.assert_allclose(
        separate.astype(jnp.float32), together.astype(jnp.float32), rtol=2e-2, atol=2e-2
    )
    gradient = jax.grad(lambda k: convolve_3x3(x, k).astype(jnp.float32).sum())(kernel)
    assert gradient.dtype == dtype
