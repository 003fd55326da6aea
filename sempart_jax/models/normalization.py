"""ImageNet's colour statistics, by which both networks read an image."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
    """Undo :func:`normalize`.

    Args:
        image: normalised RGB ``[..., H, W, 3]``.

    Returns:
        RGB ``[..., H, W, 3]`` in [0, 1].
    """
    return image * _per_channel(IMAGENET_STD, image) + _per_channel(IMAGENET_MEAN, image)
