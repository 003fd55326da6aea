"""Boxes and images of PASCAL VOC as its authors lay it out (VOC2007, VOC2012).

The folder ``VOCdevkit`` holds ``VOC<year>/ImageSets/Main/<split>.txt`` (one image id per line),
``VOC<year>/Annotations/<id>.xml`` and ``VOC<year>/JPEGImages/<id>.jpg``.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sempart_jax.data.folder import existing_files

Box = tuple[float, float, float, float]
"""``(x_min, y_min, x_max, y_max)`` in pixels from 0, ends exclusive."""


def read_boxes(
    root: str | os.PathLike[str], year: int, split: str = "trainval"
) -> dict[str, list[Box]]:
    """Read all ground-truth boxes of a split.

    Every object counts, the ones marked difficult or truncated too, as in LOST and TokenCut.
    Parts of objects (head, hand, foot) are no objects. The files count pixels from 1 and name the
    last pixel of a box, so 1 is taken off ``xmin`` and ``ymin`` alone: that leaves a box from 0
    with exclusive ends. A few coordinates of VOC2012 are fractions and stay so.

    Args:
        root: the folder ``VOCdevkit``.
        year: 2007 or 2012.
        split: name of a list in ``ImageSets/Main``: train, val, trainval or test.

    Returns:
        The boxes of each image by its id, in the order of the list. An image without objects has an
        empty list.

    Raises:
        FileNotFoundError: the list or an annotation is missing.
        ValueError: the list is empty, names an image twice or has more than one word on a line; an
            annotation is damaged, declares a document type, or holds an object without a proper
            box.
    """
    listing = _folder(root, year) / "ImageSets" / "Main" / f"{split}.txt"
    return {
        image_id: _parse(_folder(root, year) / "Annotations" / f"{image_id}.xml", listing)
        for image_id in _read_ids(listing)
    }


def image_path(root: str | os.PathLike[str], year: int, image_id: str) -> Path:
    """Return where an image of VOC lies, whether or not it is there.

    Args:
        root: the folder ``VOCdevkit``.
        year: 2007 or 2012.
        image_id: an id of :func:`read_boxes`, such as ``000005`` or ``2007_000027``.

    Returns:
        The path, which starts with ``root``.
    """
    return _folder(root, year) / "JPEGImages" / f"{image_id}.jpg"


def find_images(
    root: str | os.PathLike[str], year: int, image_ids: Iterable[str]
) -> dict[str, Path]:
    """Find which of the listed images are on the disk.

    A part of them is no error here: whoever scores it says how many of how many it is.

    Args:
        root: the folder ``VOCdevkit``.
        year: 2007 or 2012.
        image_ids: ids of :func:`read_boxes`.

    Returns:
        The path of each image that is there, by its id, in the order given.

    Raises:
        FileNotFoundError: none of them is there.
    """
    return existing_files(
        {image_id: image_path(root, year, image_id) for image_id in image_ids},
        _folder(root, year) / "JPEGImages",
        "unpack the authors' archive so that they lie there",
    )


def _folder(root: str | os.PathLike[str], year: int) -> Path:
    return Path(root) / f"VOC{year}"


def _read_ids(listing: Path) -> list[str]:
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no list of images {listing}: give the folder VOCdevkit of the authors' archive, "
            "unpacked, and a year and split that it holds"
        ) from error
    ids = [line for line in lines if line]
    if not ids:
        raise ValueError(f"{listing} names no image: unpack the authors' archive again")
    seen: set[str] = set()
    for image_id in ids:
        if len(image_id.split()) > 1:
            raise ValueError(
                f"{listing}: {image_id!r} is no image id: choose a list of one id per line, such "
                "as trainval, not the list of a class"
            )
        if image_id in seen:
            raise ValueError(f"{listing} names image {image_id} twice: remove one of the lines")
        seen.add(image_id)
    return ids


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds a tree, but refuses a document type, the only place that can declare entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"declares a document type {name!r}, which no annotation of VOC does")


def _parse(path: Path, listing: Path) -> list[Box]:
    parser: ElementTree.XMLParser[Any] = ElementTree.XMLParser(target=_NoDoctype())
    try:
        tree = ElementTree.parse(path, parser)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no annotation {path} of an image that {listing} names: unpack the whole of the "
            "authors' archive"
        ) from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path} is no annotation of VOC: {error}: unpack it again") from error
    annotation = tree.getroot()
    if annotation.tag != "annotation":
        raise ValueError(f"{path} is no annotation of VOC: it starts with <{annotation.tag}>")
    return [
        _box(thing, f"{path}, object {number}")
        for number, thing in enumerate(annotation.findall("object"), start=1)
    ]


def _box(thing: ElementTree.Element, where: str) -> Box:
    x_min, y_min, x_max, y_max = (
        _coordinate(thing, name, where) for name in ("xmin", "ymin", "xmax", "ymax")
    )
    box = (x_min - 1, y_min - 1, x_max, y_max)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(
            f"{where}: xmin {x_min:g}, ymin {y_min:g}, xmax {x_max:g}, ymax {y_max:g} hold no "
            "pixel: xmax and ymax may not be below xmin and ymin"
        )
    return box


def _coordinate(thing: ElementTree.Element, name: str, where: str) -> float:
    text = thing.findtext(f"bndbox/{name}")
    if text is None:
        raise ValueError(f"{where}: no field bndbox/{name}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: bndbox/{name} is {text!r}, which is no number of pixels")
    return value
