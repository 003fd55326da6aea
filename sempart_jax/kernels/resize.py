"""Bilinear resampling with half-pixel centres and no antialiasing, as the Sempart head needs it."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def resize_bilinear(
    x: Float[Array, "B H W C"], height: int, width: int
) -> Float[Array, "B height width C"]:
    """Sample an image bilinearly at the centres of another pixel grid.

    No antialiasing: a smaller image takes each pixel from its four nearest neighbours alone, as
    the released Sempart code does.

    Args:
        x: images ``[B, H, W, C]``.
        height: wanted height in pixels.
        width: wanted width in pixels.

    Returns:
        Images ``[B, height, width, C]`` of the same dtype.
    """
    batch, _, _, channels = x.shape
    return jax.image.resize(x, (batch, height, width, channels), "bilinear", antialias=False)


def _double(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    last = lax.slice_in_dim(x, size - 1, size, axis=axis)
    before = lax.concatenate([first, lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
    after = lax.concatenate([lax.slice_in_dim(x, 1, size, axis=axis), last], axis)
    # Output centres lie a quarter of an input pixel before and after each input centre.
    pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def double_bilinear(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """Enlarge images to twice their sides; equals :func:`resize_bilinear`, by additions alone."""
    return _double(_double(x, 1), 2)
