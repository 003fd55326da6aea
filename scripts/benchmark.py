"""Time our array kernels beside the obvious ways to write them, in one process.

    python scripts/benchmark.py

Prints medians and the ratio to the alternative; a box filter's error is against float64.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sempart_jax.filters import box_filter, grey_guide, guided_filter, guided_radius
from sempart_jax.models.convolution import convolve_3x3
from sempart_jax.postprocessing import guided


def median_milliseconds(function: Callable[..., Any], *arguments: Any, runs: int) -> float:
    """Median wall time of a function, called once beforehand so that it is compiled."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def window_difference(sums: Any, radius: int, axis: int, module: Any) -> Any:
    """Window sums as differences of a running sum that starts with a zero."""
    size = sums.shape[axis] - 1
    index = np.arange(size)
    upper = np.minimum(index + radius + 1, size)
    lower = np.maximum(index - radius, 0)
    return module.take(sums, upper, axis) - module.take(sums, lower, axis)


def cumulative_box_filter(x: Any, radius: int, module: Any = jnp) -> Any:
    """Box filter by running sums along both axes of ``[H, W, 1]``."""
    for axis in (0, 1):
        padding = [(0, 0)] * 3
        padding[axis] = (1, 0)
        sums = module.cumsum(module.pad(x, padding), axis)
        x = window_difference(sums, radius, axis, module)
    return x


def plain_convolution(x: Array, kernel: Array) -> Array:
    """Convolve with the weight gradient that autodiff and XLA give."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def weight_gradient_of(convolve: Callable[..., Array]) -> Callable[..., Array]:
    """Jitted gradient to the kernel, from input, kernel and cotangent."""

    def gradient(x: Array, kernel: Array, cotangent: Array) -> Array:
        return jax.vjp(lambda k: convolve(x, k), kernel)[1](cotangent)[0]

    return jax.jit(gradient)


def benchmark_box_filter(radius: int, runs: int) -> None:
    """Compare ours to running sums, in time and in error."""
    print(f"\nbox filter, radius {radius}: ours | running sums | ratio | errors of both")
    for height, width in ((320, 320), (3000, 4000)):
        x = jax.random.uniform(jax.random.key(0), (height, width, 1))
        ours = jax.jit(lambda x: box_filter(x, radius))
        other = jax.jit(lambda x: cumulative_box_filter(x, radius))
        exact = cumulative_box_filter(np.asarray(x, np.float64), radius, np)
        errors = [np.abs(np.asarray(f(x)) - exact).max() for f in (ours, other)]
        times = [median_milliseconds(f, x, runs=runs) for f in (ours, other)]
        print(
            f"  {height}x{width}: {times[0]:8.2f} ms | {times[1]:8.2f} ms | "
            f"{times[0] / times[1]:.2f} | {errors[0]:.1e}, {errors[1]:.1e}"
        )


def benchmark_guided_filter(runs: int) -> None:
    """Compare the filter on the host to a jitted one, which has to be compiled for each size."""
    print("\nguided filter of one image: on the host | jitted | ratio | first call of both")
    for height, width in ((300, 400), (375, 500), (3000, 4000)):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        mask = rng.uniform(size=(height, width)).astype(np.float32)
        radius = guided_radius(height, width)

        @jax.jit
        def other(image: Array, mask: Array, radius: int = radius) -> Array:
            return guided_filter(grey_guide(image / 255), mask[..., None], radius)

        first, times = [], []
        for function in (guided, other):
            started = time.perf_counter()
            jax.block_until_ready(function(image, mask))
            first.append(1e3 * (time.perf_counter() - started))
            times.append(median_milliseconds(function, image, mask, runs=runs))
        print(
            f"  {height}x{width}: {times[0]:8.2f} ms | {times[1]:8.2f} ms | "
            f"{times[0] / times[1]:.2f} | {first[0]:.1f} ms, {first[1]:.1f} ms"
        )


def benchmark_weight_gradient(runs: int) -> None:
    """Compare our weight gradient of a 3x3 convolution to XLA's."""
    print("\n3x3 convolution, 131 -> 128 channels: weight gradient ours | XLA's | ratio | forward")
    for batch, size in ((1, 320), (4, 128)):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (batch, size, size, 131))
        kernel = jax.random.normal(keys[1], (3, 3, 131, 128))
        cotangent = jax.random.normal(keys[2], (batch, size, size, 128))

        ours, other = (
            median_milliseconds(weight_gradient_of(f), x, kernel, cotangent, runs=runs)
            for f in (convolve_3x3, plain_convolution)
        )
        forward = median_milliseconds(jax.jit(plain_convolution), x, kernel, runs=runs)
        print(
            f"  {batch} x {size}x{size}: {ours:8.1f} ms | {other:8.1f} ms | {ours / other:.2f} | "
            f"{forward:.1f} ms"
        )


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind}, {platform.machine()}")
    benchmark_box_filter(9, arguments.runs)
    benchmark_guided_filter(arguments.runs)
    benchmark_weight_gradient(arguments.runs)


if __name__ == "__main__":
    main()
