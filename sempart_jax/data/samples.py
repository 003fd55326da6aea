"""A few fixed images of a data set to watch a run by."""

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.image_sources import ImageSource
from sempart_jax.data.images import UnreadableImageError, center_crop, resize_short_side


def sample_images(
    source: ImageSource, count: int, *, image_size: int, resize_size: int
) -> UInt8[np.ndarray, "N S S 3"]:
    """Read images spread evenly over a data set, cropped in the middle.

    Args:
        source: images in a fixed order.
        count: number of images wanted.
        image_size: side of the crop in pixels.
        resize_size: short side before the crop in pixels.

    Returns:
        RGB ``[N, S, S, 3]``; fewer than ``count`` where there are no more readable ones, perhaps
        none. An unreadable image is passed over: whoever trains on it names it.
    """
    available = len(source.names)
    wanted = min(count, available)
    spread = [index * available // wanted for index in range(wanted)]
    # The others stand in for unreadable ones.
    others = sorted(set(range(available)) - set(spread))
    images: list[np.ndarray] = []
    for index in (*spread, *others):
        if len(images) == wanted:
            break
        try:
            image = source.read(index)
        except UnreadableImageError:
            continue
        images.append(center_crop(resize_short_side(image, resize_size), image_size))
    return np.stack(images) if images else np.zeros((0, image_size, image_size, 3), np.uint8)
