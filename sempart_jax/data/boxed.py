"""Data sets of images with boxes around their objects, by name: VOC07, VOC12 and COCO20k."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sempart_jax.data import coco, voc
from sempart_jax.data.images import read_image

Box = tuple[float, float, float, float]
"""``(x_min, y_min, x_max, y_max)`` in pixels from 0, ends exclusive."""

VOC_YEARS = {"voc07": 2007, "voc12": 2012}
BOXED_SETS = (*VOC_YEARS, "coco20k")
"""Trainval of VOC2007 and VOC2012, and 19,817 images of COCO's train2014."""


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
        """Read an image; raises UnreadableImageError."""
        return read_image(self.paths[image_id])


def read_boxes(name: str, data_root: str | os.PathLike[str]) -> dict[str, list[Box]]:
    """Read the boxes of a data set, which needs none of its images.

    Args:
        name: one of :data:`BOXED_SETS`.
        data_root: the folder that holds ``VOCdevkit`` or ``COCO`` as their authors lay them out.

    Returns:
        The boxes of each image by its id.

    Raises:
        ValueError: no data set has this name, or its files are damaged.
        FileNotFoundError: its files are missing.
    """
    if name in VOC_YEARS:
        return voc.read_boxes(Path(data_root) / "VOCdevkit", VOC_YEARS[name])
    if name == "coco20k":
        return coco.read_boxes(Path(data_root) / "COCO")
    raise ValueError(f"unknown data set of boxes {name!r}: choose one of {', '.join(BOXED_SETS)}")


def open_boxed_set(name: str, data_root: str | os.PathLike[str]) -> BoxedSet:
    """Read the boxes of a data set, and find its images.

    Args:
        name: one of :data:`BOXED_SETS`.
        data_root: as for :func:`read_boxes`.

    Raises:
        ValueError: as :func:`read_boxes`.
        FileNotFoundError: as :func:`read_boxes`, or none of the images is there.
    """
    boxes = read_boxes(name, data_root)
    if name in VOC_YEARS:
        root = Path(data_root) / "VOCdevkit"
        return BoxedSet(voc.find_images(root, VOC_YEARS[name], boxes), boxes)
    return BoxedSet(coco.find_images(Path(data_root) / "COCO", boxes), boxes)
