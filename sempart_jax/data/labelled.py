"""Labelled data sets by random access: folders of files, or ArrayRecord prepared beforehand.

Whoever scores sees one protocol, :class:`LabelledSet`, wherever the images lie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.images import UnreadableImageError, count_pixels, read_grey, read_image
from sempart_jax.host.shown_names import printable


class LabelledImage(NamedTuple):
    """An image and its ground truth.

    Attributes:
        name: name of the file, without its extension.
        image: uint8 ``[H, W, 3]``, RGB.
        ground_truth: uint8 ``[H, W]``, grey levels; 255 is foreground.
    """

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    ground_truth: UInt8[np.ndarray, "H W"]


@runtime_checkable
class LabelledSet(Protocol):
    """Labelled images by random access; safe to read from several threads.

    Attributes:
        names: names of the images, sorted; the order of the indices.
        published_images: how many images the authors of the set publish; None where nobody did.
    """

    names: Sequence[str]
    published_images: int | None

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int) -> LabelledImage:
        """Read one image and its ground truth.

        Args:
            index: 0 to ``len - 1``.

        Returns:
            The image.

        Raises:
            IndexError: there is no such index.
            UnreadableImageError: image or mask cannot be decoded, or differ in size.
        """
        ...

    def pixels(self, index: int) -> int:
        """Return how many pixels the larger of an image and its ground truth has; 0 if unknown.

        Args:
            index: 0 to ``len - 1``.
        """
        ...


class LabelledFolder:
    """Pairs of files, as ``sempart_jax.data.folder.find_pairs`` finds them."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], published_images: int | None = None):
        """Take image files and their masks.

        Args:
            pairs: image file and mask file.
            published_images: see :class:`LabelledSet`.
        """
        self._pairs = sorted(pairs, key=lambda pair: (pair[0].stem, pair))
        self.names: Sequence[str] = [image.stem for image, _ in self._pairs]
        self.published_images = published_images

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> LabelledImage:
        image, mask = self._pairs[checked_index(index, len(self))]
        return check_sizes(
            LabelledImage(image.stem, read_image(image), read_grey(mask)), str(image), str(mask)
        )

    def pixels(self, index: int) -> int:
        """Look at the heads of both files, see :class:`LabelledSet`."""
        return max(map(count_pixels, self._pairs[checked_index(index, len(self))]))


def check_sizes(labelled: LabelledImage, image: str, mask: str) -> LabelledImage:
    """Return a labelled image, if its mask has the size of its image.

    Args:
        labelled: what was read.
        image: where the image was read from.
        mask: where the mask was read from.

    Returns:
        ``labelled``.

    Raises:
        UnreadableImageError: the sizes differ.
    """
    height, width = labelled.image.shape[:2]
    mask_height, mask_width = labelled.ground_truth.shape
    if (height, width) != (mask_height, mask_width):
        raise UnreadableImageError(
            mask,
            f"the mask has {mask_width}x{mask_height} pixels and its image {printable(image)} has "
            f"{width}x{height}: replace one of them, or remove both",
        )
    return labelled


def checked_index(index: int, length: int) -> int:
    """Return an index, if it is one of so many images; IndexError otherwise."""
    if not 0 <= index < length:
        raise IndexError(f"index {index} is not in 0..{length - 1}")
    return index
