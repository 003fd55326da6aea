"""A few fixed images of a data set to watch a run by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.images import (
    UnreadableImageError,
    center_crop,
    read_image,
    resize_short_side,
)


def sample_images(
    paths: Sequence[Path], count: int, *, image_size: int, resize_size: int
) -> UInt8[np.ndarray, "N S S 3"]:
    """Read images spread evenly over a data set, cropped in the middle.

    Args:
        paths: files in a fixed order.
        count: number of images wanted.
        image_size: side of the crop in pixels.
        resize_size: short side before the crop in pixels.

    Returns:
        RGB ``[N, S, S, 3]``; fewer than ``count`` where there are no more readable ones, perhaps
        none. An unreadable file is passed over: whoever trains on it names it.
    """
    stride = max(1, len(paths) // max(count, 1))
    images: list[np.ndarray] = []
    for offset in range(stride):
        for path in paths[offset::stride]:
            if len(images) >= count:
                break
            try:
                image = read_image(path)
            except UnreadableImageError:
                continue
            images.append(center_crop(resize_short_side(image, resize_size), image_size))
        if len(images) >= count:
            break
    return np.stack(images) if images else np.zeros((0, image_size, image_size, 3), np.uint8)
