"""Labelled data sets by random access: folders of files, or ArrayRecord prepared beforehand.

Whoever scores sees one protocol, :class:`LabelledSet`, wherever the images lie.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sempart_jax.data.folder import OWN_MASK
from sempart_jax.data.images import (
    UnreadableImageError,
    count_pixels,
    decode_grey,
    decode_image,
    exif_orientation,
    open_image,
    read_grey,
    read_image,
)
from sempart_jax.host.shown_names import printable
from sempart_jax.host.warn_once import warn_once

PREPARED = "tfds"
"""Folder under the data root that holds the prepared data sets."""

_INFO = "dataset_info.json"
_NAMES = "metadata.json"


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
        image, mask = self._pairs[_checked(index, len(self))]
        labelled = LabelledImage(image.stem, read_image(image), read_grey(mask))
        check_sizes(labelled, str(image), str(mask))
        warn_of_orientation(str(image), image, mask)
        return labelled

    def pixels(self, index: int) -> int:
        """Look at the heads of both files, see :class:`LabelledSet`."""
        return max(map(count_pixels, self._pairs[_checked(index, len(self))]))


class PreparedSet:
    """A split that ``sempart_jax.data.builders`` has prepared; nothing here needs TensorFlow."""

    def __init__(
        self, folder: str | os.PathLike[str], split: str, published_images: int | None = None
    ):
        """Open a prepared split.

        Args:
            folder: the folder of its version, which holds ``dataset_info.json``.
            split: train or test.
            published_images: see :class:`LabelledSet`.

        Raises:
            ValueError: the folder holds no such split, or its files are damaged.
        """
        # Here, so that a run on a plain folder does without the library.
        import tensorflow_datasets as tfds  # type: ignore[import-untyped]

        self._folder, self._split = Path(folder), split
        splits = prepared_splits(folder)
        if split not in splits:
            raise ValueError(f"{folder} holds no split {split}, but {', '.join(splits)}")
        verbatim = tfds.decode.SkipDecoding()
        try:
            names = json.loads((self._folder / _NAMES).read_text(encoding="utf-8"))[split]
            self._records: Any = tfds.builder_from_directory(self._folder).as_data_source(
                split, decoders={"image": verbatim, "mask": verbatim}
            )
            if len(names) != len(self._records):
                raise ValueError(f"{len(names)} names, {len(self._records)} records")
        # The C++ reader and the parsers of the library raise nearly anything.
        except Exception as error:
            raise ValueError(
                f"the prepared data set {folder} is damaged ({error}): remove the folder and "
                "prepare it again"
            ) from error
        self.names: Sequence[str] = names
        self.published_images = published_images

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> LabelledImage:
        image, record = self.label(index), self._read(index)
        mask = f"{image.removesuffix('image')}mask"
        if record["image"] == record["mask"]:
            raise UnreadableImageError(
                image, f"{OWN_MASK}: remove {self._folder} and prepare the data set again"
            )
        labelled = LabelledImage(
            self.names[index],
            decode_image(record["image"], image),
            decode_grey(record["mask"], mask, os.fspath(self._folder)),
        )
        check_sizes(labelled, image, mask)
        warn_of_orientation(image, record["image"], record["mask"])
        return labelled

    def pixels(self, index: int) -> int:
        """Look at the heads of both pictures, see :class:`LabelledSet`."""
        try:
            record = self._read(index)
        except UnreadableImageError:
            return 0
        return max(count_pixels(record["image"]), count_pixels(record["mask"]))

    def label(self, index: int) -> str:
        """Return folder, split and name of an image, and which part of its record it is."""
        return f"{self._folder}/{self._split}/{self.names[_checked(index, len(self))]}/image"

    def read(self, index: int) -> Image.Image:
        """Read an image without its mask, see ``sempart_jax.data.image_sources.ImageSource``."""
        return open_image(self._read(index)["image"], self.label(index))

    def _read(self, index: int) -> dict[str, bytes]:
        label = self.label(index)
        try:
            record: dict[str, bytes] = self._records[index]
            if record["name"].decode() != self.names[index]:
                raise ValueError(f"this is the record of {record['name'].decode()}")
        except Exception as error:
            raise UnreadableImageError(
                label, f"damaged record, prepare the data set again ({error})"
            ) from error
        return record


def newest_version(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest version of a prepared data set.

    Args:
        folder: the folder of all its versions, or of one of them.

    Returns:
        The folder of the version; None where nothing is prepared.
    """
    if (Path(folder) / _INFO).is_file():
        return Path(folder)
    versions = [path.parent for path in Path(folder).glob(f"[0-9]*.[0-9]*.[0-9]*/{_INFO}")]
    return max(
        versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None
    )


def prepared_splits(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Return the splits of a prepared data set and how many images each holds.

    Args:
        folder: the folder of its version.

    Returns:
        Number of images by split.

    Raises:
        ValueError: the folder holds no prepared data set, or a damaged one.
    """
    path = Path(folder) / _INFO
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        return {split["name"]: sum(map(int, split["shardLengths"])) for split in splits}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} describes no prepared data set ({error}): remove the folder and prepare it "
            "again"
        ) from error


def check_sizes(labelled: LabelledImage, image: str, mask: str) -> None:
    """Refuse a labelled image whose mask has not the size of its image.

    Args:
        labelled: what was read.
        image: where the image was read from.
        mask: where the mask was read from.

    Raises:
        UnreadableImageError: the sizes differ; says so if they are swapped.
    """
    height, width = labelled.image.shape[:2]
    mask_height, mask_width = labelled.ground_truth.shape
    if (height, width) != (mask_height, mask_width):
        turned = "; they fit only before the image is turned by its EXIF orientation"
        swapped = (height, width) == (mask_width, mask_height)
        raise UnreadableImageError(
            mask,
            f"the mask has {mask_width}x{mask_height} pixels and its image {printable(image)} has "
            f"{width}x{height}: replace one of them, or remove both{turned if swapped else ''}",
        )


def warn_of_orientation(
    image: str,
    source: str | os.PathLike[str] | bytes,
    mask: str | os.PathLike[str] | bytes | None = None,
) -> None:
    """Warn where no size shows whether a mask was drawn before or after its image was turned.

    Args:
        image: what to call the image.
        source: file of the image, or its content.
        mask: file of its mask, or its content; one that is turned alike needs no warning.
    """
    orientation = exif_orientation(source, same_size=True)
    if orientation != 1 and (mask is None or exif_orientation(mask) != orientation):
        warn_once(
            f"{printable(image)} is turned by its EXIF orientation {orientation}, which its size "
            "does not show: what belongs to it must be drawn on the turned image"
        )


def _checked(index: int, length: int) -> int:
    if not 0 <= index < length:
        raise IndexError(f"index {index} is not in 0..{length - 1}")
    return index
