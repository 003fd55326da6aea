"""Data sets prepared to ArrayRecord, by random access."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sempart_jax.data.images import (
    UnreadableImageError,
    count_pixels,
    decode_grey,
    decode_image,
    open_image,
)
from sempart_jax.data.labelled import LabelledImage, check_sizes, checked_index

PREPARED = "tfds"
"""Folder under the data root that holds the prepared data sets."""

_INFO = "dataset_info.json"
_NAMES = "metadata.json"


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
        name = self.names[index]
        mask = f"{self._folder}/{self._split}/{name}/mask"
        return check_sizes(
            LabelledImage(
                name, decode_image(record["image"], image), decode_grey(record["mask"], mask)
            ),
            image,
            mask,
        )

    def pixels(self, index: int) -> int:
        """Look at the heads of both pictures, see :class:`LabelledSet`."""
        try:
            record = self._read(checked_index(index, len(self)))
        except UnreadableImageError:
            return 0
        return max(count_pixels(record["image"]), count_pixels(record["mask"]))

    def label(self, index: int) -> str:
        """Return what to call an image in messages.

        Args:
            index: 0 to ``len - 1``.

        Returns:
            Folder, split and name.

        Raises:
            IndexError: there is no such index.
        """
        return f"{self._folder}/{self._split}/{self.names[checked_index(index, len(self))]}/image"

    def read(self, index: int) -> Image.Image:
        """Read an image without its mask, see ``sempart_jax.data.image_sources.ImageSource``."""
        label = self.label(index)
        return open_image(self._read(index)["image"], label)

    def _read(self, index: int) -> dict[str, bytes]:
        try:
            record: dict[str, bytes] = self._records[index]
            if record["name"].decode() != self.names[index]:
                raise ValueError(f"this is the record of {record['name'].decode()}")
        except Exception as error:
            raise UnreadableImageError(
                self.label(index),
                f"damaged record, prepare the data set again ({error})",
            ) from error
        return record


def prepared_folder(dataset: str, data_root: str | os.PathLike[str]) -> Path | None:
    """Return where a data set lies prepared.

    Args:
        dataset: name of the builder: duts, dut_omron or ecssd.
        data_root: the folder that holds :data:`PREPARED`.

    Returns:
        The folder of the newest version, or None where nothing is prepared.
    """
    return newest_version(Path(data_root) / PREPARED / dataset)


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
