"""Square crops of the resized images of a source, and of their masks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sempart_jax.data.image_sizes import check_aspect_ratio, short_side_shape
from sempart_jax.data.image_sources import (
    ImageSource,
    MaskedSource,
    PillowSource,
    read_labelled,
)

Place = Callable[[int, int], tuple[int, int]]
"""Height and width of a resized image to the top and left pixel of its crop."""


class Crop(NamedTuple):
    """A square of an image, and of its mask.

    Attributes:
        image: uint8 ``[side, side, 3]``, RGB.
        mask: uint8 ``[side, side]``; None without a mask.
    """

    image: UInt8[np.ndarray, "side side 3"]
    mask: UInt8[np.ndarray, "side side"] | None


def resized_crop(
    image: Image.Image, resize_size: int, top: int, left: int, height: int, width: int
) -> UInt8[np.ndarray, "height width *C"]:
    """Cut a rectangle out of the resized image.

    Args:
        image: of mode RGB or L.
        resize_size: pixels of the short side after resizing.
        top: first row of the rectangle in the resized image.
        left: first column.
        height: rows of the rectangle.
        width: columns of the rectangle.

    Returns:
        uint8 ``[height, width, 3]`` or ``[height, width]``, that part of what ``resize_short_side``
        returns.
    """
    rows, columns = short_side_shape(image.height, image.width, resize_size)
    # Pillow's box= would resize the rectangle alone, but takes coordinates in single precision,
    # which changes 3% of the values by up to 2.
    resized = image.resize((columns, rows), Image.Resampling.BILINEAR)
    # Only the rectangle is copied into an array.
    return np.asarray(resized.crop((left, top, left + width, top + height)))


class CropReader:
    """Crops by number of the image; safe for threads, picklable for other processes."""

    def __init__(self, source: ImageSource, *, side: int, resize_size: int):
        """Crop the images of a source.

        Args:
            source: the images; cut alike with their masks where it is a :class:`MaskedSource`.
            side: pixels of a crop's sides, at most ``resize_size``.
            resize_size: pixels of the short side of an image before the crop.
        """
        self._source, self._side, self._resize_size = source, side, resize_size
        # Here, because asking an object for a protocol takes a tenth of a millisecond.
        self._masked = source if isinstance(source, MaskedSource) else None
        self._pillow = source if isinstance(source, PillowSource) else None

    def read(self, index: int, place: Place) -> Crop:
        """Read a crop.

        Args:
            index: number of the image in its source.
            place: where the crop lies in the resized image; asked once.

        Returns:
            The crop, of the mask too where there are masks.

        Raises:
            UnreadableImageError: the image or its mask cannot be decoded, or the image is longer
                than ``sempart_jax.data.image_sizes.MAXIMUM_ASPECT_RATIO`` times its width.
        """
        image, mask = self._read_whole(index)
        height, width = short_side_shape(image.height, image.width, self._resize_size)
        square = (*place(height, width), self._side, self._side)
        return Crop(
            resized_crop(image, self._resize_size, *square),
            None if mask is None else resized_crop(mask, self._resize_size, *square),
        )

    def _read_whole(self, index: int) -> tuple[Image.Image, Image.Image | None]:
        if self._pillow is not None:
            image = read_labelled(self._source, index, self._pillow.read_pillow)
        else:
            image = Image.fromarray(read_labelled(self._source, index, self._source.read))
        height, width = image.height, image.width
        check_aspect_ratio(self._source.label(index), height, width)
        if self._masked is None:
            return image, None
        return image, Image.fromarray(self._masked.read_mask(index, height, width))
