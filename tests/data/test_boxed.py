"""Data sets of boxes by their names."""

import json

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.boxed import open_boxed_set, read_boxes
from sempart_jax.data.images import UnreadableImageError

ANNOTATION = """<annotation><object><name>cat</name><bndbox>
<xmin>2</xmin><ymin>3</ymin><xmax>8</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def write_voc(root, year, images, present):
    folder = root / "VOCdevkit" / f"VOC{year}"
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(images) + "\n")
    for name in images:
        (folder / "Annotations" / f"{name}.xml").write_text(ANNOTATION)
    for name in present:
        Image.new("RGB", (12, 10), "red").save(folder / "JPEGImages" / f"{name}.jpg")


def write_coco(root, images, present):
    folder = root / "COCO"
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2014").mkdir()
    (folder / "coco_20k_filenames.txt").write_text("\n".join(f"{name}.jpg" for name in images))
    tables = {
        "images": [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate(images)],
        "annotations": [
            {"image_id": i, "iscrowd": 0, "bbox": [1, 2, 7, 7]} for i in range(len(images))
        ],
    }
    (folder / "annotations/instances_train2014.json").write_text(json.dumps(tables))
    for name in present:
        Image.new("RGB", (12, 10), "red").save(folder / "train2014" / f"{name}.jpg")


@pytest.mark.parametrize(("name", "year"), [("voc07", 2007), ("voc12", 2012)])
def test_voc_has_all_boxes_and_the_images_that_are_there(tmp_path, name, year):
    write_voc(tmp_path, year, ["000001", "000002", "000003"], ["000002"])
    boxed = open_boxed_set(name, tmp_path)
    assert list(boxed.paths) == ["000002"]
    assert boxed.boxes == {image: [(1, 2, 8, 9)] for image in ("000001", "000002", "000003")}
    image = boxed.read("000002")
    assert image.shape == (10, 12, 3)
    assert image[..., 0].min() > 200
    assert read_boxes(name, tmp_path) == boxed.boxes


def test_coco20k_is_of_train2014(tmp_path):
    write_coco(tmp_path, ["a", "b"], ["b"])
    boxed = open_boxed_set("coco20k", tmp_path)
    assert list(boxed.paths) == ["b"]
    assert boxed.boxes == {"a": [(1, 2, 8, 9)], "b": [(1, 2, 8, 9)]}
    np.testing.assert_array_equal(boxed.read("b").shape, (10, 12, 3))


def test_unreadable_image_is_named(tmp_path):
    write_voc(tmp_path, 2007, ["000001"], ["000001"])
    path = tmp_path / "VOCdevkit/VOC2007/JPEGImages/000001.jpg"
    path.write_bytes(b"nothing")
    with pytest.raises(UnreadableImageError, match=r"000001\.jpg"):
        open_boxed_set("voc07", tmp_path).read("000001")


def test_unknown_and_missing_sets_are_errors(tmp_path):
    with pytest.raises(ValueError, match="'voc11': choose one of voc07, voc12, coco20k"):
        open_boxed_set("voc11", tmp_path)
    with pytest.raises(FileNotFoundError, match="VOC2012"):
        open_boxed_set("voc12", tmp_path)
    write_coco(tmp_path, ["a"], [])
    with pytest.raises(FileNotFoundError, match="none of the 1 listed images"):
        open_boxed_set("coco20k", tmp_path)
