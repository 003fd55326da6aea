"""Random resized crops on the device, as torchvision and Pillow define them.

Box and crop are drawn and resampled by pure functions that work under ``jit``, ``vmap`` and
``pmap``. Resampling is two products with small matrices, which suit every device, and under
``vmap`` crops of one image share the first of them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt32

_ATTEMPTS = 10


class Box(NamedTuple):
    """Pixels ``top <= row < top + height`` and ``left <= column < left + width``.

    Attributes:
        top: first row.
        left: first column.
        height: number of rows, at least 1.
        width: number of columns, at least 1.
    """

    top: Int[Array, ""]
    left: Int[Array, ""]
    height: Int[Array, ""]
    width: Int[Array, ""]


def draw_box(
    key: Key[Array, ""] | UInt32[Array, "2"],
    height: int,
    width: int,
    area: tuple[float, float],
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """Draw a box within an image, as torchvision's ``RandomResizedCrop`` does.

    Its area is uniform, and its aspect ratio log-uniform. Of ten such boxes the first that fits
    into the image is taken, at a uniformly random place. If none does, it is the largest in the
    middle of the image whose aspect ratio is as close to the image's as ``aspect_ratio`` allows.

    Args:
        key: decides everything that is random.
        height: of the image in pixels.
        width: of the image in pixels.
        area: smallest and largest share of the image's area, in (0, 1].
        aspect_ratio: smallest and largest width over height, positive.

    Returns:
        A box of whole pixels inside the image.

    Raises:
        ValueError: a range is empty or leaves what is allowed.
    """
    _check_range("area", area, 1.0)
    _check_range("aspect_ratio", aspect_ratio, math.inf)
    draws = jax.random.uniform(key, (2 * _ATTEMPTS + 2,))
    areas = height * width * (area[0] + (area[1] - area[0]) * draws[:_ATTEMPTS])
    lowest, highest = math.log(aspect_ratio[0]), math.log(aspect_ratio[1])
    ratios = jnp.exp(lowest + (highest - lowest) * draws[_ATTEMPTS:-2])
    # w = sqrt(a r), h = sqrt(a / r)
    heights = jnp.round(jnp.sqrt(areas / ratios)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(areas * ratios)).astype(jnp.int32)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = jnp.argmax(fits)
    any_fits = fits[first]

    ratio = min(max(width / height, aspect_ratio[0]), aspect_ratio[1])
    middle_height = min(height, max(1, round(width / ratio)))
    middle_width = min(width, max(1, round(height * ratio)))
    box_height = jnp.where(any_fits, heights[first], middle_height)
    box_width = jnp.where(any_fits, widths[first], middle_width)
    # Below 1, the draws are so by more than rounding takes away: the floor stays within the room.
    room = jnp.stack([height - box_height + 1, width - box_width + 1]).astype(jnp.float32)
    corner = jnp.floor(draws[-2:] * room).astype(jnp.int32)
    return Box(
        jnp.where(any_fits, corner[0], (height - middle_height) // 2),
        jnp.where(any_fits, corner[1], (width - middle_width) // 2),
        box_height,
        box_width,
    )


def resize_box(image: Float[Array, "H W C"], box: Box, size: int) -> Float[Array, "size size C"]:
    """Resample a box of an image by antialiased bicubic interpolation, as Pillow does.

    The box is cut out before it is resized: pixels around it have no weight, and the weights of
    those within add up to 1.

    Args:
        image: any number of channels.
        box: inside the image.
        size: sides of the result in pixels.

    Returns:
        Up to a few percent beyond the range of the image at sharp edges.
    """
    height, width, _ = image.shape
    rows = _cubic_weights(box.top, box.height, height, size)
    columns = _cubic_weights(box.left, box.width, width, size)
    # Two products of float32: on a GPU, the default may round what is multiplied to 10 bits.
    exact = lax.Precision.HIGHEST
    image = jnp.einsum("oh,hwc->owc", rows, image, precision=exact)
    return jnp.einsum("pw,owc->opc", columns, image, precision=exact)


def random_resized_crop(
    key: Key[Array, ""] | UInt32[Array, "2"],
    image: Float[Array, "H W 3"],
    size: int,
    area: tuple[float, float],
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Float[Array, "size size 3"]:
    """Cut out a random box (:func:`draw_box`) and resize it (:func:`resize_box`)."""
    box = draw_box(key, image.shape[0], image.shape[1], area, aspect_ratio)
    return jnp.clip(resize_box(image, box, size), 0.0, 1.0)


def _check_range(name: str, limits: tuple[float, float], largest: float) -> None:
    if not 0 < limits[0] <= limits[1] <= largest or math.isinf(limits[1]):
        upper = "positive" if math.isinf(largest) else f"in (0, {largest:g}]"
        raise ValueError(f"{name} {limits} must be the smallest and the largest, both {upper}")


def _cubic_weights(
    start: Int[Array, ""], length: Int[Array, ""], count: int, size: int
) -> Float[Array, "size count"]:
    """Weights that resize ``length`` pixels from ``start`` on, of ``count``, to ``size``."""
    pixel = jnp.arange(count)[None, :] - start
    target = jnp.arange(size)[:, None]
    # Distance of centres in units of the coarser grid, the pixels' or the targets':
    # ((i + 1/2) s - (o + 1/2) l) / max(s, l), with whole numbers up to the division
    offset = (2 * pixel + 1) * size - (2 * target + 1) * length
    distance = offset.astype(jnp.float32) / (2 * jnp.maximum(length, size)).astype(jnp.float32)
    inside = (pixel >= 0) & (pixel < length)
    weights = jnp.where(inside, _cubic(jnp.abs(distance)), 0.0)
    return weights / jnp.sum(weights, axis=1, keepdims=True)


def _cubic(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Keys' kernel with a = -1/2 at distances that are not negative."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))
