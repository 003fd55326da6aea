"""Labelled data sets by random access: folders of files, or ArrayRecord prepared beforehand."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sempart_jax.data.folder import OWN_MASK
from sempart_jax.data.images import (
    UnreadableImageError,
    count_pixels,
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


def read_labelled(
    name: str,
    image: Path | bytes,
    mask: Path | bytes,
    *,
    labels: tuple[str, str],
    folder: str | None = None,
) -> LabelledImage:
    """Read an image and its ground truth.

    Warns where no size shows whether the mask was drawn before or after its image was turned.

    Args:
        name: of the image.
        image: its file, or the content of it.
        mask: file of the ground truth, or its content.
        labels: what to call both in messages.
        folder: what the mask lies in, see ``sempart_jax.data.images.read_grey``.

    Raises:
        UnreadableImageError: one of both cannot be decoded, they are the same, or differ in size.
    """
    if image == mask:
        raise UnreadableImageError(labels[0], OWN_MASK)
    pixels, levels = read_image(image, labels[0]), read_grey(mask, labels[1], folder)
    (height, width), (mask_height, mask_width) = pixels.shape[:2], levels.shape
    if (height, width) != (mask_height, mask_width):
        turned = "; they fit only before the image is turned by its EXIF orientation"
        swapped = (height, width) == (mask_width, mask_height)
        raise UnreadableImageError(
            labels[1],
            f"the mask has {mask_width}x{mask_height} pixels and its image {printable(labels[0])} "
            f"has {width}x{height}: replace one of them, or remove both{turned if swapped else ''}",
        )
    warn_of_orientation(labels[0], image, mask)
    return LabelledImage(name, pixels, levels)


class LabelledFolder:
    """Pairs of files, as ``sempart_jax.data.folder.find_pairs`` finds them, in order of the names.

    Safe to read from several threads.

    Attributes:
        names: names of the images.
        published_images: how many images the authors of the set publish; None where nobody did.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], published_images: int | None = None):
        """Take image files and their masks."""
        self._pairs = sorted(pairs, key=lambda pair: (pair[0].stem, pair))
        self.names: Sequence[str] = [image.stem for image, _ in self._pairs]
        self.published_images = published_images

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> LabelledImage:
        image, mask = self._pairs[index]
        return read_labelled(image.stem, image, mask, labels=(str(image), str(mask)))

    def pixels(self, index: int) -> int:
        """Return how many pixels the larger of image and mask has by its head; 0 if unknown."""
        return max(map(count_pixels, self._pairs[index]))


class PreparedSet:
    """A split that ``sempart_jax.data.builders`` has prepared; nothing here needs TensorFlow."""

    def __init__(
        self, folder: str | os.PathLike[str], split: str, published_images: int | None = None
    ):
        """Open a split of the version in ``folder``, which holds ``dataset_info.json``.

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
        return read_labelled(
            self.names[index],
            record["image"],
            record["mask"],
            labels=(image, mask),
            folder=os.fspath(self._folder),
        )

    def pixels(self, index: int) -> int:
        """See :class:`LabelledFolder`."""
        try:
            record = self._read(index)
        except UnreadableImageError:
            return 0
        return max(count_pixels(record["image"]), count_pixels(record["mask"]))

    def label(self, index: int) -> str:
        """Return folder, split and name of an image, and which part of its record it is."""
        return f"{self._folder}/{self._split}/{self.names[index]}/image"

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


LabelledSet = LabelledFolder | PreparedSet
"""What can be scored on."""


def newest_version(folder: str | os.PathLike[str]) -> Path | None:
    """Return the folder of the newest version of a prepared data set; None where there is none.

    ``folder`` is that of all its versions, or of one of them.
    """
    if (Path(folder) / _INFO).is_file():
        return Path(folder)
    versions = [path.parent for path in Path(folder).glob(f"[0-9]*.[0-9]*.[0-9]*/{_INFO}")]
    return max(
        versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None
    )


def prepared_splits(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Return how many images each split of a version of a prepared data set holds.

    A ValueError tells of a folder that holds none, or a damaged one.
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


def warn_of_orientation(
    image: str,
    source: str | os.PathLike[str] | bytes,
    mask: str | os.PathLike[str] | bytes | None = None,
) -> None:
    """Warn where no size shows whether what belongs to an image was drawn on it turned or not.

    ``image`` is what to call it; a mask that is turned alike needs no warning.
    """
    orientation = exif_orientation(source, same_size=True)
    if orientation != 1 and (mask is None or exif_orientation(mask) != orientation):
        warn_once(
            f"{printable(image)} is turned by its EXIF orientation {orientation}, which its size "
            "does not show: what belongs to it must be drawn on the turned image"
        )
