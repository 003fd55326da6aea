"""A few fixed images of a data set to watch a run by, and their masks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.image_sizes import center_crop, check_aspect_ratio, resize_short_side
from sempart_jax.data.image_sources import ImageSource, MaskedSource, read_with_mask
from sempart_jax.data.images import UnreadableImageError


class Samples(NamedTuple):
    """Images and their masks, cropped alike.

    Attributes:
        image: uint8 ``[N, S, S, 3]``, RGB.
        mask: uint8 ``[N, S, S]``, 255 is foreground; None where the source has no masks.
    """

    image: UInt8[np.ndarray, "N S S 3"]
    mask: UInt8[np.ndarray, "N S S"] | None


def read_samples(source: ImageSource, count: int, *, image_size: int, resize_size: int) -> Samples:
    """Read images spread evenly over a data set, and their masks, cropped in the middle.

    Args:
        source: images in a fixed order.
        count: number of images wanted.
        image_size: side of the crop in pixels.
        resize_size: short side before the crop in pixels.

    Returns:
        Fewer than ``count`` images where there are no more readable ones, perhaps none. An image
        that is unreadable, or whose mask is, is passed over: whoever trains on it names it.
    """
    available = len(source.names)
    wanted = min(count, available)
    spread = [index * available // wanted for index in range(wanted)]
    # The others stand in for unreadable ones.
    others = sorted(set(range(available)) - set(spread))
    images = np.zeros((wanted, image_size, image_size, 3), np.uint8)
    masks = np.zeros((wanted, image_size, image_size), np.uint8)
    filled = 0
    for index in (*spread, *others):
        if filled == wanted:
            break
        try:
            image, mask = read_with_mask(source, index)
            check_aspect_ratio(source.label(index), *image.shape[:2])
        except UnreadableImageError:
            continue
        images[filled] = center_crop(resize_short_side(image, resize_size), image_size)
        if mask is not None:
            masks[filled] = center_crop(resize_short_side(mask, resize_size), image_size)
        filled += 1
    return Samples(images[:filled], masks[:filled] if isinstance(source, MaskedSource) else None)
