"""Shapes of images, and pixels brought to them: resized as torchvision does it, and cropped."""

import os

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from sempart_jax.data.images import UnreadableImageError

MAXIMUM_ASPECT_RATIO = 20
"""Long side over short side from which an image is not cropped after its short side was resized.
Resized to a short side of 355, such a strip has 7,100 x 355 pixels (7.6 MB), and a square crop
shows a 20th of it; one of 20,000 x 1 would take 7.6 GB."""


def short_side_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width at which the shorter side has ``size`` pixels, at least 1.

    The longer side becomes ``int(size * long / short)``, rounded down, as in torchvision's
    ``Resize(size)`` for PIL images.
    """
    long = int(size * max(height, width) / min(height, width))
    return (size, long) if width >= height else (long, size)


def check_aspect_ratio(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Refuse an image whose resized short side would make a huge long one."""
    if max(height, width) > MAXIMUM_ASPECT_RATIO * min(height, width):
        raise UnreadableImageError(
            path,
            f"{width}x{height} pixels: one side is more than "
            f"{MAXIMUM_ASPECT_RATIO} times the other",
        )


def check_not_turned(
    mask: str | os.PathLike[str], mask_size: tuple[int, int], image_size: tuple[int, int]
) -> None:
    """Refuse a mask whose height and width are those of its upright image the other way round."""
    if mask_size != image_size and mask_size == image_size[::-1]:
        raise UnreadableImageError(
            mask,
            f"the mask has {mask_size[1]}x{mask_size[0]} pixels and its image "
            f"{image_size[1]}x{image_size[0]}, which fit only before the image is turned by its "
            "EXIF orientation: turn the mask as the image is seen",
        )


def resize_short_side(image: UInt8[np.ndarray, "H W *C"], size: int) -> UInt8[np.ndarray, "h w *C"]:
    """Resize RGB or grey levels to the shape of :func:`short_side_shape`, see :func:`resize`."""
    height, width = image.shape[:2]
    return resize(image, *short_side_shape(height, width, size))


def resized_crop(
    image: Image.Image, resize_size: int, top: int, left: int, size: int
) -> UInt8[np.ndarray, "size size *C"]:
    """Cut a square out of an image of mode RGB or L, resized as :func:`resize_short_side` does.

    ``top`` and ``left`` are its first row and column in the resized image.
    """
    height, width = short_side_shape(image.height, image.width, resize_size)
    # Pillow's box= would resize the square alone, but takes coordinates in single precision, which
    # changes 3% of the values by up to 2.
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    # Only the square is copied into an array.
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def resize(
    pixels: UInt8[np.ndarray, "H W *C"] | Float[np.ndarray, "H W"], height: int, width: int
) -> UInt8[np.ndarray, "h w *C"] | Float[np.ndarray, "h w"]:
    """Resize by bilinear sampling, antialiased where it shrinks; the shape may be distorted.

    Returns ``pixels`` themselves where they have that size already.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def shrink(pixels: Shaped[np.ndarray, "H W *C"], longest: int) -> Shaped[np.ndarray, "h w *C"]:
    """Bring a picture to a longer side of so many pixels, unless it is smaller."""
    height, width = pixels.shape[:2]
    scale = min(1.0, longest / max(height, width))
    return resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def center_crop(
    image: Shaped[np.ndarray, "H W *C"], size: int
) -> Shaped[np.ndarray, "size size *C"]:
    """Return a view of the ``size`` × ``size`` square in the middle.

    The corner is ``round((side - size) / 2)`` with halves to even, as in torchvision's
    ``CenterCrop``. A ValueError tells of an image that is smaller than the square.
    """
    height, width = image.shape[:2]
    if not 0 < size <= min(height, width):
        raise ValueError(
            f"cannot crop {size}x{size} out of an image of {height}x{width}: resize it first"
        )
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]
