"""Data sets of images with boxes around their objects: VOC07, VOC12 and COCO20k.

They lie as their authors lay them out. ``VOCdevkit/VOC<year>`` holds one image id per line of
``ImageSets/Main/trainval.txt``, ``Annotations/<id>.xml`` and ``JPEGImages/<id>.jpg``. ``COCO``
holds ``annotations/instances_train2014.json``, the images ``train2014/<name>.jpg`` and the list of
the 19,817 images that LOST (arXiv 2109.14279), TokenCut and later work use.
"""

import dataclasses
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.images import SWAPPING, UnreadableImageError, exif_orientation, read_image
from sempart_jax.data.labelled import warn_of_orientation
from sempart_jax.host.shown_names import shorten

Box = tuple[float, float, float, float]
"""``(x_min, y_min, x_max, y_max)`` in pixels from 0, ends exclusive."""

VOC_YEARS = {"voc07": 2007, "voc12": 2012}
BOXED_SETS = (*VOC_YEARS, "coco20k")
"""Trainval of VOC2007 and VOC2012, and 19,817 images of COCO's train2014."""

COCO_FILE_LIST = "coco_20k_filenames.txt"
"""Name of LOST's list (in its repository, valeoai/LOST, under ``datasets``)."""


@dataclasses.dataclass(frozen=True)
class BoxedSet:
    """Images with the boxes of their objects.

    Attributes:
        paths: file of each image that is on the disk, by its id.
        boxes: ground-truth boxes of each annotated image, by its id, on the disk or not.
    """

    paths: Mapping[str, Path]
    boxes: Mapping[str, Sequence[Box]]

    def read(self, image_id: str) -> UInt8[np.ndarray, "H W 3"]:
        """Read an image; UnreadableImageError if its boxes fit only before it is turned upright."""
        path = self.paths[image_id]
        image = read_image(path)
        height, width = image.shape[:2]
        beyond = any(x > width or y > height for _, _, x, y in self.boxes[image_id])
        if beyond and exif_orientation(path) in SWAPPING:
            raise UnreadableImageError(
                path,
                f"its boxes reach beyond its {width}x{height} pixels: they fit only before it is "
                "turned by its EXIF orientation",
            )
        warn_of_orientation(str(path), path)
        return image


def read_boxes(name: str, data_root: str | os.PathLike[str]) -> dict[str, list[Box]]:
    """Read the boxes of a data set, which needs none of its images.

    Args:
        name: one of :data:`BOXED_SETS`.
        data_root: the folder that holds ``VOCdevkit`` or ``COCO``.

    Returns:
        The boxes of each image by its id, in the order of the set's list. An image without objects
        has an empty list.

    Raises:
        ValueError: no data set has this name, or its files are damaged.
        FileNotFoundError: its files are missing.
    """
    return _read(name, data_root)[2]


def open_boxed_set(name: str, data_root: str | os.PathLike[str]) -> BoxedSet:
    """Read the boxes of a data set as :func:`read_boxes` does, and find its images.

    A part of the images is no error here: whoever scores it says how many of how many it is.

    Raises:
        FileNotFoundError: also if none of the images is there.
    """
    folder, files, boxes = _read(name, data_root)
    # Some annotations of COCO name the split, too.
    paths = {
        image_id: folder / file if (folder / file).is_file() else folder.parent / file
        for image_id, file in files.items()
    }
    found = {image_id: path for image_id, path in paths.items() if path.is_file()}
    if not found:
        raise FileNotFoundError(
            f"none of the {len(paths)} listed images is in {folder}: unpack the authors' archive "
            "so that they lie there"
        )
    return BoxedSet(found, boxes)


def _read(
    name: str, data_root: str | os.PathLike[str]
) -> tuple[Path, dict[str, str], dict[str, list[Box]]]:
    """Return the folder of the images, the file of each in it, and its boxes."""
    if name in VOC_YEARS:
        folder = Path(data_root) / "VOCdevkit" / f"VOC{VOC_YEARS[name]}"
        boxes = _read_voc(folder)
        return folder / "JPEGImages", {image_id: f"{image_id}.jpg" for image_id in boxes}, boxes
    if name == "coco20k":
        root = Path(data_root) / "COCO"
        annotations = root / "annotations" / "instances_train2014.json"
        return root / "train2014", *read_coco(root / COCO_FILE_LIST, annotations)
    raise ValueError(f"unknown data set of boxes {name!r}: choose one of {', '.join(BOXED_SETS)}")


def _read_voc(folder: Path) -> dict[str, list[Box]]:
    """Read the boxes of the split trainval of PASCAL VOC.

    Every object counts, the ones marked difficult or truncated too, as in LOST and TokenCut.
    Parts of objects (head, hand, foot) are no objects. The files count pixels from 1 and name the
    last pixel of a box, so 1 is taken off ``xmin`` and ``ymin`` alone: that leaves a box from 0
    with exclusive ends. A few coordinates of VOC2012 are fractions and stay so.
    """
    listing = folder / "ImageSets" / "Main" / "trainval.txt"
    ids = _read_list(listing, f"unpack the archive of VOC so that {folder} is the folder in it")
    if unfit := [line for line in ids if len(line.split()) > 1]:
        raise ValueError(f"{listing}: {unfit[0]!r} is no image id: it is the list of a class")
    return {name: _voc_boxes(folder / "Annotations" / f"{name}.xml", listing) for name in ids}


def read_coco(listing: Path, annotations: Path) -> tuple[dict[str, str], dict[str, list[Box]]]:
    """Read the boxes of some images of COCO.

    As in LOST and TokenCut, boxes of crowds are left out and corners are rounded to whole pixels
    (halves to the even one), which can take all area from a sliver. The annotations of train2014
    are 450 MB of text, so reading them takes a while and some GB of memory.

    Args:
        listing: text file with one image per line, as a file name or with its folders before it.
        annotations: COCO's ``instances_<split>.json``, or one like it, whose images may lie in
            folders and whose annotations may lack ``iscrowd``.

    Returns:
        The file of each image, as the annotations name it, and its boxes. The id of an image is its
        file name without folders and extension (``COCO_train2014_000000560992``).

    Raises:
        FileNotFoundError: the list or the annotations are missing.
        ValueError: the list is empty or names an image twice; the annotations are damaged, or lack
            a listed image or have several of its name.
    """
    names = _read_list(listing, "take it from LOST's repository")
    where = str(annotations)
    try:
        content = json.loads(annotations.read_bytes())
        listed = dict.fromkeys(names, 0)
        images: dict[str, dict[str, Any]] = {}
        for image in content["images"]:
            if (name := PurePosixPath(image["file_name"]).name) in listed:
                images[name] = image
                listed[name] += 1
        boxes_of: dict[int, list[Box]] = {image["id"]: [] for image in images.values()}
        for index, annotation in enumerate(content["annotations"]):
            where = f"{annotations}, annotations[{index}]"
            boxes = boxes_of.get(annotation["image_id"])
            # As pycocotools takes it where it is absent.
            if boxes is not None and not annotation.get("iscrowd"):
                boxes.append(_coco_corners(annotation["bbox"]))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no annotations {annotations}: unpack COCO's archive of annotations so that they lie "
            "there"
        ) from error
    # What a damaged file holds may be of any type.
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{where} is damaged ({type(error).__name__}: {error}): unpack it again"
        ) from error
    if lacking := [name for name, count in listed.items() if count != 1]:
        raise ValueError(
            f"{len(lacking)} of {len(names)} images of {listing} are not in {annotations}, or more "
            f"than once: {shorten(lacking)}: check that both are of one split"
        )
    by_id = {PurePosixPath(name).stem: images[name] for name in names}
    files = {image_id: image["file_name"] for image_id, image in by_id.items()}
    return files, {image_id: boxes_of[image["id"]] for image_id, image in by_id.items()}


def _read_list(listing: Path, advice: str) -> list[str]:
    """Return the names of the listed images, without their folders."""
    try:
        # With or without a byte-order mark.
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no list of images {listing}: {advice}") from error
    images = [PurePosixPath(line.strip()).name for line in lines if line.strip()]
    if not images:
        raise ValueError(f"{listing} names no image: {advice}")
    ((image, count),) = Counter(images).most_common(1)
    if count > 1:
        raise ValueError(f"{listing} names image {image} twice: remove one of the lines")
    return images


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds a tree, but refuses a document type, the only place that can declare entities."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"declares a document type {name!r}, which no annotation of VOC does")


def _voc_boxes(path: Path, listing: Path) -> list[Box]:
    parser: ElementTree.XMLParser[Any] = ElementTree.XMLParser(target=_NoDoctype())
    try:
        annotation = ElementTree.parse(path, parser).getroot()
        if annotation.tag != "annotation":
            raise ValueError(f"it starts with <{annotation.tag}>")
        return [_voc_box(*one) for one in enumerate(annotation.findall("object"), start=1)]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no annotation {path} of an image that {listing} names: unpack the whole archive"
        ) from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path} is no annotation of VOC: {error}: unpack it again") from error


def _voc_box(number: int, thing: ElementTree.Element) -> Box:
    fields = {name: thing.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")}
    try:
        x_min, y_min, x_max, y_max = (float(text or "") for text in fields.values())
    except ValueError:
        x_min = y_min = x_max = y_max = math.nan
    box = (x_min - 1, y_min - 1, x_max, y_max)
    if not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"object {number} has no box that holds a pixel, but {fields}")
    return box


def _coco_corners(bbox: Any) -> Box:
    x, y, width, height = bbox
    if width < 0 or height < 0:
        raise ValueError(f"a box of {width} x {height} pixels")
    return float(round(x)), float(round(y)), float(round(x + width)), float(round(y + height))
