"""Gaussian blur on the device, as torchvision defines it."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def gaussian_kernel(sigma: float | Float[Array, ""], radius: int) -> Float[Array, " taps"]:
    """Return the weights of a Gaussian at whole pixels, cut off and normalised.

    Args:
        sigma: standard deviation in pixels, positive.
        radius: pixels on each side of the middle.

    Returns:
        ``[2 radius + 1]``, float32, with sum 1.
    """
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    # exp(-x^2 / (2 sigma^2)); the middle is 1 whatever sigma is, so the sum is never 0
    weights = jnp.exp(-0.5 * jnp.square(offsets / sigma))
    return weights / jnp.sum(weights)


def gaussian_blur(
    image: Float[Array, "*B H W C"], sigma: float | Float[Array, ""], *, radius: int
) -> Float[Array, "*B H W C"]:
    """Blur rows and columns by one Gaussian.

    At the borders the image is mirrored about its outermost pixels, which are not repeated, as
    torchvision's ``GaussianBlur`` does. The radius is the caller's: ``ceil(3 sigma)`` of the
    largest sigma cuts off 0.3 percent of the weight. Under ``vmap`` each image may have a sigma of
    its own.

    Args:
        image: any number of channels.
        sigma: standard deviation in pixels, positive.
        radius: pixels on each side that count, at least 0.

    Returns:
        Of the same shape, within the range of the image but for rounding.
    """
    weights = gaussian_kernel(sigma, radius)
    for axis in (image.ndim - 3, image.ndim - 2):
        size = image.shape[axis]
        margins = [(radius, radius) if other == axis else (0, 0) for other in range(image.ndim)]
        padded = jnp.pad(image, margins, mode="reflect")
        # Else what the image comes of is computed again for every tap, at three times the cost.
        padded = lax.optimization_barrier(padded)
        # w_0 x_i + sum_k w_k (x_{i-k} + x_{i+k}): on a CPU 40 times faster than a convolution
        # whose kernel is another one for each image.
        image = weights[radius] * lax.slice_in_dim(padded, radius, radius + size, axis=axis)
        for tap in range(1, radius + 1):
            before = lax.slice_in_dim(padded, radius - tap, radius - tap + size, axis=axis)
            after = lax.slice_in_dim(padded, radius + tap, radius + tap + size, axis=axis)
            image = image + weights[radius + tap] * (before + after)
    return image
