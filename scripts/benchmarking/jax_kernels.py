"""Single kernels of ours, and the obvious ways to write them, in JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sempart_jax.kernels.convolution import convolve_3x3
from sempart_jax.two_tricks.filters import box_filter

from .child import Work


def box(*, height: int, width: int, radius: int, ours: bool) -> Work:
    """Window sums by ours or by running sums; the result is the largest error against float64."""
    x = jax.random.uniform(jax.random.key(0), (height, width, 1))
    filtered = jax.jit(lambda x: (box_filter if ours else cumulative_box_filter)(x, radius))

    def error() -> float:
        exact = cumulative_box_filter(np.asarray(x, np.float64), radius, np)
        return float(np.abs(np.asarray(filtered(x)) - exact).max())

    return Work(lambda: jax.block_until_ready(filtered(x)), error)


def cumulative_box_filter(x: Any, radius: int, module: Any = jnp) -> Any:
    """Box filter of ``[H, W, 1]`` by running sums along both axes, in JAX or NumPy."""
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (1, 0)
        # A running sum that starts with a zero; a window is the difference of two of its values.
        sums = module.cumsum(module.pad(x, padding), axis)
        index = np.arange(x.shape[axis])
        upper = np.minimum(index + radius + 1, x.shape[axis])
        lower = np.maximum(index - radius, 0)
        x = module.take(sums, upper, axis) - module.take(sums, lower, axis)
    return x


def weight_gradient(*, batch: int, side: int, inputs: int, outputs: int, ours: bool) -> Work:
    """Gradient to the kernel of a 3x3 convolution, by ours or as autodiff and XLA give it."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, side, side, inputs))
    kernel = jax.random.normal(keys[1], (3, 3, inputs, outputs))
    cotangent = jax.random.normal(keys[2], (batch, side, side, outputs))
    convolve: Callable[..., Array] = convolve_3x3 if ours else _plain_convolution

    @jax.jit
    def gradient(x: Array, kernel: Array, cotangent: Array) -> Array:
        return jax.vjp(lambda k: convolve(x, k), kernel)[1](cotangent)[0]

    def run() -> Array:
        return jax.block_until_ready(gradient(x, kernel, cotangent))

    return Work(run, lambda: np.asarray(run()) / np.abs(np.asarray(run())).max())


def convolution(*, batch: int, side: int, inputs: int, outputs: int) -> Work:
    """The forward pass of that convolution, which sets what its gradient may cost."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, side, side, inputs))
    kernel = jax.random.normal(keys[1], (3, 3, inputs, outputs))
    forward = jax.jit(_plain_convolution)
    return Work(lambda: jax.block_until_ready(forward(x, kernel)))


def _plain_convolution(x: Array, kernel: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
