import json
from pathlib import Path
from typing import Any

import pytest

from sempart_jax.data.coco import FILE_LIST, find_images, image_path, read_boxes
from sempart_jax.data.images import read_image


def write(root: Path, lines: str, content: Any, split: str = "train2014") -> Path:
    (root / "annotations").mkdir()
    (root / FILE_LIST).write_text(lines)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / f"annotations/instances_{split}.json").write_text(text)
    return root


def image(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 64, "height": 48}


def thing(number: int, *bbox: Any, iscrowd: int = 0) -> dict[str, Any]:
    return {"image_id": number, "bbox": list(bbox), "iscrowd": iscrowd, "category_id": 1}


CONTENT = {
    "images": [image(7, "a.jpg"), image(5, "b.jpg"), image(9, "c.jpg"), image(1, "unlisted.jpg")],
    "annotations": [
        thing(5, 1, 2, 3, 4),
        thing(1, 0, 0, 1, 1),
        thing(7, 10.4, 10.6, 5.2, 5.2),
        thing(7, 0, 0, 60, 40, iscrowd=1),
        thing(5, 0.5, 1.5, 0.2, 7.25),
        thing(9, 0, 0, 60, 40, iscrowd=1),
    ],
}
LINES = "train2014/c.jpg\ntrain2014/b.jpg\na.jpg\n"


def test_boxes_are_rounded_corners_without_crowds(tmp_path):
    boxes = read_boxes(write(tmp_path, LINES, CONTENT))
    assert list(boxes.items()) == [
        ("c", []),
        # The second is narrower than a pixel: 0.5 and 0.7, rounded to 0 and 1; 1.5 to 2.
        ("b", [(1, 2, 4, 6), (0, 2, 1, 9)]),
        # Corners are rounded, not lengths: 10.4 + 5.2 is nearer to 16, 10.6 + 5.2 as well.
        ("a", [(10, 11, 16, 16)]),
    ]
    assert all(type(end) is float for objects in boxes.values() for box in objects for end in box)


def test_another_list_and_split(tmp_path):
    root = write(tmp_path, "", CONTENT, "val2017")
    other = tmp_path / "other.txt"
    other.write_text("val2017/b.jpg\n")
    assert list(read_boxes(root, other, "val2017")) == ["b"]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{FILE_LIST}.*LOST"):
        read_boxes(tmp_path)
    (tmp_path / FILE_LIST).write_text(LINES)
    with pytest.raises(FileNotFoundError, match=r"annotations/instances_train2014\.json"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("\n", "names no image"),
        ("a.jpg\ntrain2014/a.jpg\n", r"names image a\.jpg twice"),
        ("val2014/a.jpg\n", r"'val2014/a\.jpg' is no image of train2014"),
        ("a.txt\n", r"'a\.txt' is no image of train2014"),
    ],
)
def test_damaged_list(tmp_path, lines, message):
    with pytest.raises(ValueError, match=rf"{FILE_LIST}.*{message}"):
        read_boxes(write(tmp_path, lines, CONTENT))


def test_listed_images_that_are_not_annotated(tmp_path):
    lines = "".join(f"train2014/x{number}.jpg\n" for number in range(7)) + LINES
    with pytest.raises(ValueError, match=r"7 of 10 images of .*instances_train2014") as caught:
        read_boxes(write(tmp_path, lines, CONTENT))
    assert "x0.jpg, x1.jpg, x2.jpg, x3.jpg, x4.jpg and 2 more" in str(caught.value)


def with_thing(**changes: Any) -> dict[str, Any]:
    changed = thing(5, 0, 0, 1, 1) | changes
    kept = {name: value for name, value in changed.items() if value is not None}
    return CONTENT | {"annotations": [thing(5, 0, 0, 1, 1), kept]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(CONTENT)[:-40], "is damaged"),
        ("\xff", "is damaged"),
        ([], "no list of objects 'images'"),
        ({"images": []}, "no list of objects 'annotations'"),
        ({"images": [], "annotations": {}}, "no list of objects 'annotations'"),
        ({"images": [1], "annotations": []}, "no list of objects 'images'"),
        (CONTENT | {"images": [{"id": 3}]}, r"images\[0\]: no field 'file_name'"),
        (
            CONTENT | {"images": [image(1, "z.jpg"), {"file_name": "a.jpg"}]},
            r"\[1\]: no field 'id'",
        ),
        (CONTENT | {"images": [{"file_name": ["a.jpg"]}]}, "file_name is .* not of type str"),
        (with_thing(image_id=None), r"annotations\[1\]: no field 'image_id'"),
        (with_thing(image_id="5"), "image_id is '5', not of type int"),
        (with_thing(iscrowd=None), r"annotations\[1\]: no field 'iscrowd'"),
        (with_thing(bbox=None), r"annotations\[1\]: no field 'bbox'"),
        (with_thing(bbox=[1, 2, 3]), r"annotations\[1\]: bbox \[1, 2, 3\]"),
        (with_thing(bbox=[1, 2, 3, "4"]), r"annotations\[1\]: bbox"),
        (with_thing(bbox=[1, 2, float("nan"), 4]), r"annotations\[1\]: bbox"),
        (with_thing(bbox=[1, 2, 3, -4]), r"annotations\[1\]: bbox .*width and height in pixels"),
    ],
)
def test_damaged_annotations(tmp_path, content, message):
    root = write(tmp_path, LINES, content)
    with pytest.raises(ValueError, match=rf"instances_train2014\.json.*{message}"):
        read_boxes(root)


def test_images_on_the_disk(tmp_path):
    ids = ["c", "a", "b"]
    with pytest.raises(FileNotFoundError, match=r"none of the 3 listed images is in .*train2014"):
        find_images(tmp_path, ids)
    (tmp_path / "train2014").mkdir()
    for name in ("a", "b", "unlisted"):
        (tmp_path / f"train2014/{name}.jpg").touch()
    assert list(find_images(tmp_path, ids).items()) == [
        ("a", tmp_path / "train2014/a.jpg"),
        ("b", tmp_path / "train2014/b.jpg"),
    ]
    assert image_path(tmp_path, "c", "val2017") == tmp_path / "val2017/c.jpg"


def test_real_photographs(reference_data, tmp_path):
    root = reference_data / "COCO"
    names = sorted(path.name for path in (root / "val2017").iterdir())
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"val2017/{name}\n" for name in names))
    boxes = read_boxes(root, listing, "val2017")
    # 407 annotations, five of them crowds.
    assert (len(boxes), sum(map(len, boxes.values()))) == (40, 402)
    images = find_images(root, boxes, "val2017")
    assert list(images) == list(boxes)
    for name, path in list(images.items())[:10]:
        height, width, _ = read_image(path).shape
        for x_min, y_min, x_max, y_max in boxes[name]:
            assert 0 <= x_min <= x_max <= width
            assert 0 <= y_min <= y_max <= height


def test_real_file_list(reference_data, tmp_path):
    lines = (reference_data / "COCO" / FILE_LIST).read_text()
    names = [line.split("/")[1] for line in lines.split()]
    content = {
        "images": [image(number, name) for number, name in enumerate(names)],
        "annotations": [thing(number, number, 0, 1, 1) for number in range(len(names))],
    }
    boxes = read_boxes(write(tmp_path, lines, content))
    assert len(boxes) == 19817
    assert boxes["COCO_train2014_000000396626"] == [(1, 0, 2, 1)]
