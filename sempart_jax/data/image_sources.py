"""Unlabelled images by random access: any folder of files, or a prepared data set."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sempart_jax.data.folder import find_images
from sempart_jax.data.images import UnreadableImageError, decode_pillow, read_pillow
from sempart_jax.data.prepared import PreparedSet, newest_version, prepared_splits

Pixels = TypeVar("Pixels")


@runtime_checkable
class ImageSource(Protocol):
    """Images by random access; safe to read from several threads, picklable for other processes.

    Attributes:
        names: what tells the images apart wherever they lie, in the order of the indices.
    """

    names: Sequence[str]

    def label(self, index: int) -> str:
        """Return what to call an image in messages, the path of its file where it has one."""
        ...

    def read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read an image.

        Args:
            index: 0 to ``len(names) - 1``.

        Returns:
            uint8 ``[H, W, 3]``, RGB.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        ...


@runtime_checkable
class PillowSource(ImageSource, Protocol):
    """Images that need not become arrays before they are resized: what trains on them is faster."""

    def read_pillow(self, index: int) -> Image.Image:
        """Read the image that :meth:`read` gives as an array.

        Args:
            index: 0 to ``len(names) - 1``.

        Returns:
            The image in mode RGB.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        ...


@runtime_checkable
class MaskedSource(ImageSource, Protocol):
    """Images that each have a mask to learn from."""

    def read_mask(self, index: int, height: int, width: int) -> UInt8[np.ndarray, "H W"]:
        """Read the mask of an image.

        Args:
            index: 0 to ``len(names) - 1``.
            height: height of the image that :meth:`read` gives, in pixels.
            width: width of that image in pixels.

        Returns:
            uint8 ``[height, width]``; 255 is foreground, 0 is background.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """
        ...


def read_with_mask(
    source: ImageSource, index: int
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"] | None]:
    """Read an image, and its mask where the source has masks.

    Args:
        source: images.
        index: 0 to ``len(source.names) - 1``.

    Returns:
        Image and mask of one size; no mask unless ``source`` is a :class:`MaskedSource`.

    Raises:
        UnreadableImageError: one of both cannot be decoded; its ``path`` is the image's label, or
            what the source calls the mask.
    """
    image = read_labelled(source, index, source.read)
    height, width = image.shape[:2]
    if isinstance(source, MaskedSource):
        return image, source.read_mask(index, height, width)
    return image, None


def read_labelled(source: ImageSource, index: int, read: Callable[[int], Pixels]) -> Pixels:
    """Read an image so that an error names it as its source does.

    Args:
        source: images.
        index: 0 to ``len(source.names) - 1``.
        read: ``source.read`` or ``source.read_pillow``.

    Returns:
        What ``read`` returns.

    Raises:
        UnreadableImageError: it cannot be decoded; its ``path`` is the image's label.
    """
    try:
        return read(index)
    except UnreadableImageError as error:
        raise UnreadableImageError(source.label(index), error.reason) from error


class ImageFiles:
    """Image files, as ``sempart_jax.data.folder.find_images`` finds them."""

    def __init__(self, paths: Sequence[Path], root: str | os.PathLike[str]):
        """Take files in a fixed order.

        Args:
            paths: files under ``root``.
            root: the folder that their names are relative to, so that a moved folder stays the
                same.

        Raises:
            ValueError: a path is not under ``root``.
        """
        self._paths = [os.fspath(path) for path in paths]
        self.names: Sequence[str] = [Path(path).relative_to(root).as_posix() for path in paths]

    def label(self, index: int) -> str:
        """Return the path of a file."""
        return self._paths[index]

    def read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read a file, see :class:`ImageSource`."""
        return np.array(self.read_pillow(index))

    def read_pillow(self, index: int) -> Image.Image:
        """Read a file, see :class:`PillowSource`."""
        return read_pillow(self._paths[index])


class PreparedImages:
    """The images of a prepared data set; its masks are never read."""

    def __init__(self, prepared: PreparedSet):
        """Take a prepared split."""
        self._prepared = prepared
        self.names: Sequence[str] = prepared.names

    def label(self, index: int) -> str:
        """Return data set, split and name of an image, and which part of its record it is."""
        return self._prepared.image_label(index)

    def read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read the image of a record, see :class:`ImageSource`."""
        return np.array(self.read_pillow(index))

    def read_pillow(self, index: int) -> Image.Image:
        """Read the image of a record, see :class:`PillowSource`."""
        return decode_pillow(self._prepared.image_bytes(index), self.label(index))


def open_images(folder: str | os.PathLike[str]) -> ImageSource:
    """Open the images of a folder of files or of a prepared data set.

    Args:
        folder: any folder of images; or that of a prepared data set, such as ``data/tfds/duts``,
            whose training split is taken, or the only one that it has.

    Returns:
        The images.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no image.
        ValueError: ``folder`` is a file, or the prepared data set is damaged.
    """
    version = newest_version(folder)
    if version is None:
        return ImageFiles(find_images(folder), folder)
    splits = list(prepared_splits(version))
    if "train" not in splits and len(splits) != 1:
        raise ValueError(f"{folder} holds no split train but several: {', '.join(splits)}")
    return PreparedImages(PreparedSet(version, "train" if "train" in splits else splits[0]))
