"""Images to train on by random access: any folder of files, or a prepared data set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from sempart_jax.data.folder import find_images
from sempart_jax.data.image_sizes import (
    center_crop,
    check_aspect_ratio,
    resize,
    resize_short_side,
)
from sempart_jax.data.images import UnreadableImageError, open_image
from sempart_jax.data.labelled import PreparedSet, newest_version, prepared_splits
from sempart_jax.data.masks import FEW_LEVELS
from sempart_jax.host.shown_names import shorten


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

    def read(self, index: int) -> Image.Image:
        """Read an image in mode RGB.

        Raises:
            UnreadableImageError: it cannot be decoded; its ``path`` is the image's label.
        """
        ...


@runtime_checkable
class MaskedSource(ImageSource, Protocol):
    """Images that each have a mask to learn from."""

    def read_mask(self, index: int, height: int, width: int) -> UInt8[np.ndarray, "H W"]:
        """Read the mask of an image that has this height and width; 255 is foreground.

        Raises:
            UnreadableImageError: it cannot be decoded; its ``path`` is what the source calls it.
        """
        ...


class ImageFiles:
    """Image files, as ``sempart_jax.data.folder.find_images`` finds them."""

    def __init__(self, paths: Sequence[Path], root: str | os.PathLike[str]):
        """Take files under ``root`` in a fixed order.

        Their names are relative to it, so that a moved folder stays the same.
        """
        self._paths = [os.fspath(path) for path in paths]
        self.names: Sequence[str] = [Path(path).relative_to(root).as_posix() for path in paths]

    def label(self, index: int) -> str:
        """Return the path of a file."""
        return self._paths[index]

    def read(self, index: int) -> Image.Image:
        """Read a file, see :class:`ImageSource`."""
        return open_image(self._paths[index])


def open_images(folder: str | os.PathLike[str]) -> ImageSource:
    """Open the images of a folder of files or of a prepared data set.

    Args:
        folder: any folder of images, see :func:`training_images`; or that of a prepared data set,
            such as ``data/tfds/duts``, whose training split is taken, or the only one that it has.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no image.
        ValueError: ``folder`` is a file, or the prepared data set is damaged.
    """
    version = newest_version(folder)
    if version is None:
        return ImageFiles(training_images(folder), folder)
    splits = list(prepared_splits(version))
    if "train" not in splits and len(splits) != 1:
        raise ValueError(f"{folder} holds no split train but several: {', '.join(splits)}")
    return PreparedSet(version, "train" if "train" in splits else splits[0])


def training_images(root: str | os.PathLike[str]) -> list[Path]:
    """Find the images of a folder, without folders of masks that lie beside them.

    A folder counts as one of masks if most of its files have the names of images elsewhere under
    ``root``, and the first that has is drawn in few colours while that image is not. A warning
    names it. See ``sempart_jax.data.folder.find_images`` for the rest.
    """
    paths = find_images(root)
    of_name: dict[str, list[Path]] = {}
    of_folder: dict[Path, list[Path]] = {}
    for path in paths:
        of_name.setdefault(path.stem, []).append(path)
        of_folder.setdefault(path.parent, []).append(path)
    masks = set()
    for folder, files in of_folder.items():
        shared = [
            path for path in files if any(other.parent != folder for other in of_name[path.stem])
        ]
        if 2 * len(shared) > len(files) and _is_mask_of_one(shared[0], of_name[shared[0].stem]):
            masks.add(folder)
    if masks:
        logging.warning(
            "left out %d pictures that look like masks of the images beside them, in %s: to train "
            "on them, give their folder alone",
            sum(len(of_folder[folder]) for folder in masks),
            shorten([os.fspath(folder) for folder in sorted(masks)]),
        )
    return [path for path in paths if path.parent not in masks]


def _is_mask_of_one(path: Path, images: Sequence[Path]) -> bool:
    """Say whether a picture has few colours, and one of some others has many."""
    few = _count_colours(path)
    bound = FEW_LEVELS if few <= FEW_LEVELS else 256
    return 0 < few <= bound and any(_count_colours(image) > bound for image in images)


def _count_colours(path: Path) -> int:
    """Count the colours of a picture, up to 257; 0 if it cannot be read."""
    try:
        colours = open_image(path).getcolors(256)
    except UnreadableImageError:
        return 0
    return 257 if colours is None else len(colours)


def read_pair(source: ImageSource, index: int) -> tuple[Image.Image, Image.Image | None]:
    """Read an image that can be cropped, and its mask where the source has masks.

    Both are of one size, RGB and L. UnreadableImageError tells of too long a strip, too.
    """
    image = source.read(index)
    height, width = image.height, image.width
    check_aspect_ratio(source.label(index), height, width)
    if not isinstance(source, MaskedSource):
        return image, None
    return image, Image.fromarray(source.read_mask(index, height, width))


class Samples(NamedTuple):
    """A few fixed images of a data set to watch a run by, and their masks, cropped alike.

    Attributes:
        image: uint8 ``[N, S, S, 3]``, RGB.
        mask: uint8 ``[N, S, S]``, 255 is foreground; None where the source has no masks.
    """

    image: UInt8[np.ndarray, "N S S 3"]
    mask: UInt8[np.ndarray, "N S S"] | None


def read_samples(
    source: ImageSource, count: int, *, image_size: int, resize_size: int | None
) -> Samples:
    """Read images spread evenly over a data set, and their masks, cropped in the middle.

    ``resize_size`` is the short side before the crop; None squeezes the whole image instead.
    Unreadable images, or those whose mask is, are passed over: whoever trains on them names them.
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
            pair = read_pair(source, index)
        except UnreadableImageError:
            continue
        for samples, picture in zip((images, masks), pair, strict=True):
            if picture is not None:
                pixels = np.asarray(picture)
                samples[filled] = (
                    resize(pixels, image_size, image_size)
                    if resize_size is None
                    else center_crop(resize_short_side(pixels, resize_size), image_size)
                )
        filled += 1
    return Samples(images[:filled], masks[:filled] if isinstance(source, MaskedSource) else None)
