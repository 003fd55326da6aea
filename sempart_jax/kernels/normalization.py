"""From bytes to what both networks read: RGB in [0, 1], then ImageNet's colour statistics."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_HIGH = 32897 / 2**23
_LOW = 1 / 255 - _HIGH
"""1/255 in two parts, the first of 16 binary digits."""


def from_bytes(image: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Take bytes to [0, 1], to the last bit as ``image.astype(np.float32) / 255`` does on the host.

    Args:
        image: uint8 of any shape.

    Returns:
        float32 of the same shape.
    """
    values = image.astype(jnp.float32)
    # A compiler makes one product of the division, which rounds half of the 256 values otherwise.
    # Here the first product is exact: 8 binary digits by 16.
    return values * _HIGH + values * _LOW


def _per_channel(values: tuple[float, float, float], like: Array) -> Array:
    return jnp.asarray(values, like.dtype).reshape((1,) * (like.ndim - 1) + (3,))


def normalize(image: Float[Array, "*batch H W 3"]) -> Float[Array, "*batch H W 3"]:
    """Take RGB in [0, 1] to ImageNet's zero mean and unit variance a channel.

    Args:
        image: RGB ``[..., H, W, 3]`` in [0, 1].

    Returns:
        ``[..., H, W, 3]``, what the backbone and the head read.
    """
    return (image - _per_channel(IMAGENET_MEAN, image)) / _per_channel(IMAGENET_STD, image)


def denormalize(image: Float[Array, "*batch H W 3"]) -> Float[Array, "*batch H W 3"]:
    """Undo :func:`normalize`."""
    return image * _per_channel(IMAGENET_STD, image) + _per_channel(IMAGENET_MEAN, image)
