"""Anybody's pictures as arrays, and which side of a mask is the foreground: no network."""

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from sempart_jax.data.images import rgb_pixels

Picture = Shaped[np.ndarray, "H W 3"] | Shaped[np.ndarray, "H W"] | Image.Image
"""RGB or grey levels, uint8 or float in [0, 1]; or an image of Pillow, see ``rgb_pixels``."""


def choose_side(mask: Float[np.ndarray, "H W"], invert: str) -> Float[np.ndarray, "H W"]:
    """Make the foreground of a mask 1: the training does not tell the two sides apart.

    Args:
        mask: soft mask in [0, 1].
        invert: ``auto`` inverts a mask that covers more than half of its image (two tricks,
            Sec. 5.1, for one image); ``never`` and ``always`` do so regardless.

    Returns:
        The mask, or 1 minus the mask.
    """
    inverted = invert == "always" or (invert == "auto" and float(mask.mean()) > 0.5)
    return 1 - mask if inverted else mask


def as_rgb(image: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """Turn a picture, see :data:`Picture`, into RGB of 8 bits.

    Raises:
        ValueError: if it is no picture, empty, or has values out of range or, in Pillow, of no
            fixed range.
    """
    if isinstance(image, Image.Image):
        image = rgb_pixels(image)
    if not isinstance(image, np.ndarray) and not hasattr(image, "__array__"):
        raise ValueError(
            f"an image is an array or an image of Pillow, got {type(image).__name__}: open files "
            "with PIL.Image.open"
        )
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(
            f"an image has the shape (height, width, 3) or (height, width), got {np.shape(image)}: "
            "drop an alpha channel, and take batches apart into a list"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"an image is uint8 or float in [0, 1], got {array.dtype}, which has no fixed range: "
            "divide by the largest possible value, 65535 for 16 bits"
        )
    low, high = float(array.min()), float(array.max())
    # Comparisons with NaN are false.
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"a float image lies in [0, 1], got values from {low} to {high}: divide 8-bit values "
            "by 255"
        )
    return np.rint(array * 255).astype(np.uint8)
