"""Masks that segment has written, once more in the formats of labelling and training tools."""

import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.folder_lock import locked
from sempart_jax.host.shown_names import printable
from sempart_jax.segmentation.records import read_records

COCO, YOLO = FORMATS = ("coco", "yolo")
"""What masks can be written as beside their pictures."""

COCO_FILE = "annotations.json"
YOLO_FOLDER = "yolo"

_FILES = {COCO: COCO_FILE, YOLO: f"{YOLO_FOLDER}/data.yaml"}
_CATEGORY = "foreground"
_WRITTEN_BY = "written by sempart_jax.segment"


class _Picture(NamedTuple):
    path: Path
    name: str
    mask: UInt8[np.ndarray, "H W"]
    numbers: list[int]

    def objects(self) -> Iterator[Bool[np.ndarray, "H W"]]:
        return (self.mask == number for number in self.numbers)


def check_formats(formats: Sequence[str], outputs: Sequence[str], mask: str) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        ModuleNotFoundError: if the library of a format is not installed.
        ValueError: if a format is unknown, or has no binary mask to be made of.
    """
    if len(set(formats)) != len(formats) or not set(formats) <= set(FORMATS):
        raise ValueError(
            f"--format is some of {', '.join(FORMATS)}, each once, got {','.join(formats)!r}"
        )
    if formats and "mask" not in outputs:
        raise ValueError("--format is made of the masks: leave mask among --outputs")
    if formats and mask != "binary":
        raise ValueError("--format is for binary masks: leave --mask=soft out")
    if COCO in formats and importlib.util.find_spec("pycocotools") is None:
        raise ModuleNotFoundError(
            "--format=coco needs pycocotools: pip install 'sempart_jax[coco]', or "
            "pip install pycocotools"
        )


def claim_formats(root: Path, formats: Sequence[str]) -> None:
    """Make sure that no file of somebody else is replaced.

    Raises:
        ValueError: if there is one under a name of :func:`write_formats`.
    """
    for name in formats:
        file = root / _FILES[name]
        there = root / YOLO_FOLDER if name == YOLO else file
        if os.path.lexists(there) and not _is_ours(file):
            raise ValueError(
                f"{there} is there already, and was not written by this program: choose another "
                "--out"
            )


def _is_ours(file: Path) -> bool:
    try:
        with file.open("rb") as start:
            return _WRITTEN_BY.encode() in start.read(200)
    except OSError:
        return False


def write_formats(root: Path, formats: Sequence[str], settings: str) -> None:
    """Write the masks of all images that have a record of these settings, whoever made them.

    Args:
        root: output folder.
        formats: some of :data:`FORMATS`: ``coco`` is one :data:`COCO_FILE` with a run-length
            encoding and a box for each object, whose names of images begin below the deepest folder
            that holds all images; ``yolo`` a folder with ``data.yaml``, ``classes.txt`` and
            ``labels/NAME.txt``, a polygon for each object. An image without objects has none.
        settings: digest of the settings.

    Raises:
        OSError: if a mask cannot be read, or something not be written.
    """
    if not formats:
        return
    # Of processes that end at once, the last one has to see the records of all.
    with locked(root, "--out", part=".formats", wait=True):
        if COCO in formats:
            _write_coco(root, settings)
        if YOLO in formats:
            _write_yolo(root, settings)


def tell_outdated(root: Path, formats: Sequence[str]) -> None:
    """Warn of files of formats that a call has not been asked to renew."""
    for name, file in _FILES.items():
        if name not in formats and _is_ours(root / file):
            logging.warning(
                "%s is of an earlier call: give --format=%s to renew it",
                printable(root / file),
                name,
            )


def _pictures(root: Path, settings: str) -> Iterator[_Picture]:
    for path, lines in sorted(read_records(root).items()):
        own = [line for line in lines if line["settings"] == settings and "mask" in line]
        if not own:
            continue
        file = root / own[-1]["mask"]
        if not file.is_file():
            logging.warning("%s is gone, and left out", printable(file))
            continue
        with Image.open(file) as picture:
            values = [value for value, count in enumerate(picture.histogram()) if value and count]
            yield _Picture(path, own[-1]["name"], np.asarray(picture), values)


def _write_coco(root: Path, settings: str) -> None:
    from pycocotools import mask as coco

    images: list[tuple[Path, int, int]] = []
    annotations: list[dict[str, Any]] = []
    for picture in _pictures(root, settings):
        height, width = picture.mask.shape
        images.append((picture.path, height, width))
        for binary in picture.objects():
            encoded = coco.encode(np.asfortranarray(binary.view(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": 1,
                    "segmentation": {
                        "size": [height, width],
                        "counts": encoded["counts"].decode("ascii"),
                    },
                    "area": int(coco.area(encoded)),
                    "bbox": coco.toBbox(encoded).tolist(),
                    "iscrowd": 0,
                }
            )
    folder = _common_folder([path for path, _, _ in images])
    content = {
        "info": {"description": f"Masks {_WRITTEN_BY}", "images": os.fspath(folder)},
        "images": [
            {
                "id": number,
                "file_name": path.relative_to(folder).as_posix(),
                "height": height,
                "width": width,
            }
            for number, (path, height, width) in enumerate(images, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": _CATEGORY, "supercategory": ""}],
    }
    write_atomically(root / COCO_FILE, json.dumps(content) + "\n")


def _common_folder(paths: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()


def _write_yolo(root: Path, settings: str) -> None:
    folder = root / YOLO_FOLDER
    # Text of JSON is text of YAML.
    lines = [
        f"# {_WRITTEN_BY}: put or link the images as {YOLO_FOLDER}/images",
        f"path: {json.dumps(os.fspath(folder.resolve()))}",
        *("train: images", "val: images", "nc: 1", "names:", f"  0: {_CATEGORY}", ""),
    ]
    write_atomically(folder / "data.yaml", "\n".join(lines))
    write_atomically(folder / "classes.txt", f"{_CATEGORY}\n")
    for picture in _pictures(root, settings):
        size = np.flip(picture.mask.shape)
        rows = [
            " ".join(["0", *(f"{number:.6g}" for number in (outline / size).ravel())]) + "\n"
            for outline in map(polygon, picture.objects())
        ]
        write_atomically(folder / "labels" / f"{picture.name}.txt", "".join(rows))


def polygon(binary: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "points 2"]:
    """Draw one line around a mask.

    Parts and holes are joined to the rest by two lines on top of each other, for the formats that
    have one polygon an object.

    Args:
        binary: the mask, with at least one pixel.

    Returns:
        x and y of the corners in pixels, 0 being the border of the image.
    """
    import contourpy
    from matplotlib.path import Path as Line
    from scipy.spatial import KDTree

    levels = np.pad(binary, 1).astype(np.float32)
    # A pixel's value is that of its centre.
    rings: list[Any] = list(contourpy.contour_generator(z=levels).lines(0.5))
    outline: Any = np.empty((0, 2))
    for ring in sorted(rings, key=len, reverse=True):
        # Without what lies between two others on a line; the last vertex only ends the path.
        corners = np.asarray(Line(ring - 0.5).cleaned(simplify=True).vertices)[:-1]
        if not len(outline):
            outline = corners
            continue
        distances, nearest = KDTree(outline).query(corners)
        start, at = int(np.argmin(distances)), int(nearest[np.argmin(distances)])
        turned = np.roll(corners[:-1], -start, axis=0)
        outline = np.concatenate([outline[: at + 1], turned, turned[:1], outline[at:]])
    return np.clip(outline, 0, np.flip(binary.shape))
