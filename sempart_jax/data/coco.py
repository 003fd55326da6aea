"""Boxes and images of COCO20k, 19,817 images of COCO's train2014, in the official layout.

The root holds ``annotations/instances_<split>.json`` and the images ``<split>/<name>.jpg``. The
list of files is the one of LOST (arXiv 2109.14279); TokenCut and later work use the same.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from sempart_jax.data.folder import existing_files

Box = tuple[float, float, float, float]
"""``(x_min, y_min, x_max, y_max)`` in pixels from 0, ends exclusive."""

FILE_LIST = "coco_20k_filenames.txt"
"""Name of LOST's list (in its repository, valeoai/LOST, under ``datasets``)."""

_SHOWN = 5


def read_boxes(
    root: str | os.PathLike[str],
    file_list: str | os.PathLike[str] | None = None,
    split: str = "train2014",
) -> dict[str, list[Box]]:
    """Read all ground-truth boxes of the listed images.

    As in LOST and TokenCut, boxes of crowds are left out and corners are rounded to whole pixels
    (halves to the even one), which can take all area from a sliver. The annotations of train2014
    are 450 MB of text, so reading them takes a while and some GB of memory.

    Args:
        root: the folder that holds ``annotations``.
        file_list: text file with one image per line, as a file name or as ``<split>/<file name>``;
            :data:`FILE_LIST` under ``root`` if None.
        split: the part of COCO that the images belong to.

    Returns:
        The boxes of each image by its id, the file name without extension
        (``COCO_train2014_000000560992``), in the order of the list. An image without objects, or
        with crowds alone, has an empty list.

    Raises:
        FileNotFoundError: the list or the annotations are missing.
        ValueError: the list is empty, names an image twice or one of another split; the annotations
            are damaged or lack a listed image.
    """
    listing = Path(root) / FILE_LIST if file_list is None else Path(file_list)
    names = _read_names(listing, split)
    path = Path(root) / "annotations" / f"instances_{split}.json"
    images, annotations = _read_tables(path)
    listed = set(names)
    number_of: dict[str, int] = {}
    for index, image in enumerate(images):
        where = f"{path}, images[{index}]"
        name = _field(image, "file_name", str, where)
        if name in listed:
            number_of[name] = _field(image, "id", int, where)
    lacking = [name for name in names if name not in number_of]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise ValueError(
            f"{len(lacking)} of {len(names)} images of {listing} are not in {path}: "
            f"{', '.join(lacking[:_SHOWN])}{more}: check that both are of one split"
        )
    boxes_of: dict[int, list[Box]] = {number_of[name]: [] for name in names}
    for index, annotation in enumerate(annotations):
        where = f"{path}, annotations[{index}]"
        boxes = boxes_of.get(_field(annotation, "image_id", int, where))
        if boxes is not None and not _field(annotation, "iscrowd", int, where):
            boxes.append(_corners(_field(annotation, "bbox", list, where), where))
    return {PurePosixPath(name).stem: boxes_of[number_of[name]] for name in names}


def image_path(root: str | os.PathLike[str], image_id: str, split: str = "train2014") -> Path:
    """Return where an image of COCO lies, whether or not it is there.

    Args:
        root: the folder that holds the folder ``split``.
        image_id: an id of :func:`read_boxes`.
        split: the part of COCO that the image belongs to.

    Returns:
        The path, which starts with ``root``.
    """
    return Path(root) / split / f"{image_id}.jpg"


def find_images(
    root: str | os.PathLike[str], image_ids: Iterable[str], split: str = "train2014"
) -> dict[str, Path]:
    """Find which of the listed images are on the disk.

    A part of them is no error here: whoever scores it says how many of how many it is.

    Args:
        root: the folder that holds the folder ``split``.
        image_ids: ids of :func:`read_boxes`.
        split: the part of COCO that the images belong to.

    Returns:
        The path of each image that is there, by its id, in the order given.

    Raises:
        FileNotFoundError: none of them is there.
    """
    return existing_files(
        {image_id: image_path(root, image_id, split) for image_id in image_ids},
        Path(root) / split,
        f"unpack COCO's archive of {split} so that they lie there",
    )


def _read_names(listing: Path, split: str) -> list[str]:
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no list of images {listing}: take {FILE_LIST} from LOST's repository, or give the "
            "path of another list"
        ) from error
    names: dict[str, None] = {}
    for line in filter(None, lines):
        path = PurePosixPath(line)
        if path.suffix != ".jpg" or path.parent.name not in ("", split):
            raise ValueError(
                f"{listing}: {line!r} is no image of {split}: a line is <name>.jpg or "
                f"{split}/<name>.jpg"
            )
        if path.name in names:
            raise ValueError(f"{listing} names image {path.name} twice: remove one of the lines")
        names[path.name] = None
    if not names:
        raise ValueError(f"{listing} names no image: fetch it again")
    return list(names)


def _read_tables(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no annotations {path}: unpack COCO's archive of annotations so that they lie there"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}: unpack it again") from error
    for field in ("images", "annotations"):
        table = content.get(field) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise ValueError(f"{path} holds no list of objects {field!r}: it is no COCO file")
    return content["images"], content["annotations"]


def _field(row: dict[str, Any], name: str, kind: type, where: str) -> Any:
    if name not in row:
        raise ValueError(f"{where}: no field {name!r}")
    if not isinstance(row[name], kind):
        raise ValueError(f"{where}: {name} is {row[name]!r}, not of type {kind.__name__}")
    return row[name]


def _corners(bbox: list[Any], where: str) -> Box:
    if (
        len(bbox) != 4
        or not all(isinstance(value, int | float) and math.isfinite(value) for value in bbox)
        or min(bbox[2:]) < 0
    ):
        raise ValueError(f"{where}: bbox {bbox} is no x, y, width and height in pixels")
    x, y, width, height = bbox
    return float(round(x)), float(round(y)), float(round(x + width)), float(round(y + height))
