"""Boxes of PASCAL VOC and COCO, and the images that are there."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sempart_jax.data.boxed import (
    COCO_FILE_LIST,
    VOC_YEARS,
    BoxedSet,
    open_boxed_set,
    read_boxes,
    read_coco,
)
from sempart_jax.data.images import UnreadableImageError, read_image

OBJECT = """
    <object>
        <name>dog</name><truncated>{hard}</truncated><difficult>{hard}</difficult>
        <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
    </object>"""


def annotation(*boxes: tuple[object, ...], hard: int = 0) -> str:
    objects = "".join(OBJECT.format(*box, hard=hard) for box in boxes)
    return f"<annotation><filename>x.jpg</filename>{objects}\n</annotation>\n"


def write_voc(root: Path, ids: str, name: str = "voc07", **annotations: str) -> Path:
    """Write the list trainval; ``annotations`` by id with an ``i`` before it."""
    folder = root / "VOCdevkit" / f"VOC{VOC_YEARS[name]}"
    for inside in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / inside).mkdir(parents=True)
    (folder / "ImageSets/Main/trainval.txt").write_text(ids)
    for image_id, text in annotations.items():
        (folder / f"Annotations/{image_id[1:]}.xml").write_text(text)
    return folder


def test_boxes_of_voc_start_at_zero_in_the_order_of_the_list(tmp_path):
    write_voc(
        tmp_path,
        "000009\n000005\n000007\n\n",
        i000005=annotation((1, 1, 500, 375), (48, 240, 195, 371), hard=1),
        i000007=annotation(),
        i000009=annotation((3, 4, 3, 4)),
        i000001="not read",
    )
    assert list(read_boxes("voc07", tmp_path).items()) == [
        ("000009", [(2, 3, 3, 4)]),
        ("000005", [(0, 0, 500, 375), (47, 239, 195, 371)]),
        ("000007", []),
    ]


def test_parts_are_no_objects_and_fractions_stay(tmp_path):
    text = textwrap.dedent("""\
        <annotation>
          <object>
            <name>person</name>
            <part><name>head</name>
              <bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>
            <bndbox><ymax>90</ymax><xmax> 80 </xmax><ymin>8</ymin><xmin>45.75</xmin></bndbox>
          </object>
        </annotation>
        """)
    write_voc(tmp_path, "2011_003353\n", "voc12", i2011_003353=text)
    assert read_boxes("voc12", tmp_path) == {"2011_003353": [(44.75, 7, 80, 90)]}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("\n \n", r"trainval\.txt names no image"),
        ("1\n2\n1\n", r"trainval\.txt names image 1 twice"),
        ("1 -1\n2  1\n", r"trainval\.txt: '1 -1' is no image id.*the list of a class"),
    ],
)
def test_a_damaged_list_of_voc(tmp_path, ids, message):
    write_voc(tmp_path, ids, i1=annotation(), i2=annotation())
    with pytest.raises(ValueError, match=message):
        read_boxes("voc07", tmp_path)


BOX = annotation((1, 2, 3, 4))
DOCTYPE = "<!DOCTYPE annotation [<!ENTITY one {}>]>" + annotation(("&one;", 1, 5, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no element found"),
        (BOX[:150], "no element found|unclosed"),
        ("<html></html>", "starts with <html>"),
        ("<?xml version='1.0' encoding='strange'?>" + BOX, "unknown encoding"),
        (BOX.replace("bndbox", "box"), "object 1 has no box .*'xmin': None"),
        (BOX.replace("<ymax>4</ymax>", ""), "object 1 has no box .*'ymax': None"),
        (annotation((1, 1, 2, 2), ("1", "", 2, 2)), "object 2 has no box .*'ymin': ''"),
        (annotation(("nan", 1, 2, 2)), "object 1 has no box .*'xmin': 'nan'"),
        (annotation((1, 1, 2, "inf")), "object 1 has no box .*'ymax': 'inf'"),
        (annotation((1, 1, 2, "two")), "object 1 has no box .*'ymax': 'two'"),
        (annotation((3, 1, 2, 2)), "object 1 has no box .*'xmin': '3'"),
        (annotation((1, 3, 2, 2)), "object 1 has no box .*'ymin': '3'"),
        (DOCTYPE.format('SYSTEM "file:///etc/hostname"'), "declares a document type 'annotation'"),
        (DOCTYPE.format('"1"'), "declares a document type 'annotation'"),
    ],
)
def test_a_damaged_or_hostile_annotation_of_voc(tmp_path, text, message):
    write_voc(tmp_path, "1\n7\n", i1=BOX, i7=text)
    with pytest.raises(ValueError, match=rf"Annotations/7\.xml is no annotation .*({message})"):
        read_boxes("voc07", tmp_path)


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


def write_coco(root: Path, lines: str = LINES, content: Any = CONTENT) -> Path:
    (root / "COCO/annotations").mkdir(parents=True)
    (root / "COCO/train2014").mkdir()
    (root / "COCO" / COCO_FILE_LIST).write_text(lines)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "COCO/annotations/instances_train2014.json").write_text(text)
    return root / "COCO/train2014"


def test_boxes_of_coco_are_rounded_corners_without_crowds(tmp_path):
    write_coco(tmp_path)
    boxes = read_boxes("coco20k", tmp_path)
    assert list(boxes.items()) == [
        ("c", []),
        # The second is narrower than a pixel: 0.5 and 0.7, rounded to 0 and 1; 1.5 to 2.
        ("b", [(1, 2, 4, 6), (0, 2, 1, 9)]),
        # Corners are rounded, not lengths: 10.4 + 5.2 is nearer to 16, 10.6 + 5.2 as well.
        ("a", [(10, 11, 16, 16)]),
    ]
    assert all(type(end) is float for objects in boxes.values() for box in objects for end in box)


RLE = {"counts": [5, 4, 3063], "size": [48, 64]}


@pytest.mark.parametrize(
    ("crowd", "counted"),
    [
        ({"iscrowd": 1, "segmentation": RLE}, False),
        ({"iscrowd": 1, "segmentation": RLE | {"counts": "PPYo0"}}, False),
        ({"iscrowd": True, "segmentation": RLE, "bbox": None}, False),
        ({"iscrowd": 0, "segmentation": RLE}, True),
        ({"iscrowd": None}, True),
    ],
)
def test_crowds_are_told_as_by_pycocotools(tmp_path, crowd, counted):
    write_coco(tmp_path, "b.jpg\n", with_thing(**crowd))
    assert len(read_boxes("coco20k", tmp_path)["b"]) == 1 + counted


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg", "deep/er/a.jpg"),
        ("deep/a.jpg", "deep/a.jpg"),
        ("train2014/deep/a.jpg", "deep/a.jpg"),
        ("train2014/a.jpg", "train2014/a.jpg"),
        ("a.jpg", "train2014/a.jpg"),
    ],
)
def test_images_of_coco_in_folders(tmp_path, line, file):
    content = {"images": [image(1, file)], "annotations": [thing(1, 0, 0, 1, 1)]}
    train2014 = write_coco(tmp_path, f"{line}\n", content)
    path = train2014 / file.removeprefix("train2014/")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), "red").save(path)
    boxed = open_boxed_set("coco20k", tmp_path)
    assert boxed.boxes == {"a": [(0, 0, 1, 1)]}
    assert boxed.paths["a"].samefile(path)


def test_an_image_of_coco_that_may_be_several(tmp_path):
    content = {"images": [image(1, "x/a.jpg"), image(2, "y/a.jpg")], "annotations": []}
    write_coco(tmp_path, "a.jpg\n", content)
    with pytest.raises(ValueError, match=r"are not in .*, or more than once: a\.jpg"):
        read_boxes("coco20k", tmp_path)


def test_files_with_a_byte_order_mark(tmp_path):
    mark = b"\xef\xbb\xbf"
    folder = write_voc(tmp_path, "7\n", i7=annotation((3, 4, 3, 4)))
    write_coco(tmp_path)
    expected = [read_boxes(name, tmp_path) for name in ("voc07", "coco20k")]
    marked = ["ImageSets/Main/trainval.txt", "Annotations/7.xml"]
    listing, *json_files = (tmp_path / "COCO").rglob("*.*")
    for path in (*(folder / name for name in marked), listing, *json_files):
        path.write_bytes(mark + path.read_bytes())
    assert [read_boxes(name, tmp_path) for name in ("voc07", "coco20k")] == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("\n", "names no image"),
        ("a.jpg\nb.jpg\ntrain2014/a.jpg\n", r"names image a\.jpg twice"),
        (
            "".join(f"x{number}.jpg\n" for number in range(7)) + LINES,
            r"7 of 10 .*x4\.jpg and 2 more",
        ),
    ],
)
def test_a_list_of_coco_that_does_not_fit(tmp_path, lines, message):
    write_coco(tmp_path, lines)
    with pytest.raises(ValueError, match=message):
        read_boxes("coco20k", tmp_path)


def with_thing(**changes: Any) -> dict[str, Any]:
    changed = thing(5, 0, 0, 1, 1) | changes
    kept = {name: value for name, value in changed.items() if value is not None}
    return CONTENT | {"annotations": [thing(5, 0, 0, 1, 1), kept]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(CONTENT)[:-40], r"json is damaged"),
        ("\xff", "json is damaged"),
        ([], "json is damaged"),
        ({"images": []}, "json is damaged .*'annotations'"),
        ({"images": [1], "annotations": []}, "json is damaged"),
        (CONTENT | {"images": [{"id": 3}]}, "json is damaged .*'file_name'"),
        (CONTENT | {"images": [{"file_name": ["a.jpg"], "id": 1}]}, "json is damaged"),
        (with_thing(image_id=None), r"json, annotations\[1\] is damaged .*'image_id'"),
        (CONTENT | {"annotations": [5]}, r"json, annotations\[0\] is damaged"),
        (with_thing(bbox=None), r"json, annotations\[1\] is damaged .*'bbox'"),
        (with_thing(bbox=[1, 2, 3]), r"json, annotations\[1\] is damaged"),
        (with_thing(bbox=[1, 2, 3, "4"]), r"json, annotations\[1\] is damaged"),
        (with_thing(bbox=[1, 2, float("nan"), 4]), r"json, annotations\[1\] is damaged"),
        (with_thing(bbox=[1, 2, float("inf"), 4]), r"json, annotations\[1\] is damaged"),
        (with_thing(bbox=[1, 2, 3, -4]), r"json, annotations\[1\] is damaged .*3 x -4 pixels"),
    ],
)
def test_damaged_annotations_of_coco(tmp_path, content, message):
    write_coco(tmp_path, LINES, content)
    with pytest.raises(ValueError, match=rf"instances_train2014\.{message}"):
        read_boxes("coco20k", tmp_path)


def test_images_that_are_there_are_found_and_read(tmp_path):
    jpegs = write_voc(tmp_path, "3\n1\n2\n", **{f"i{k}": BOX for k in (1, 2, 3)}) / "JPEGImages"
    train2014 = write_coco(tmp_path)
    for name, folder, there in (("voc07", jpegs, "31"), ("coco20k", train2014, "ba")):
        with pytest.raises(FileNotFoundError, match=f"none of the 3 listed images is in {folder}"):
            open_boxed_set(name, tmp_path)
        for stem in (*there, "unlisted"):
            Image.new("RGB", (12, 10), "red").save(folder / f"{stem}.jpg")
        boxed = open_boxed_set(name, tmp_path)
        assert boxed.boxes == read_boxes(name, tmp_path)
        assert list(boxed.paths.items()) == [(stem, folder / f"{stem}.jpg") for stem in there]
        assert boxed.read(there[0]).shape == (10, 12, 3)
        (folder / f"{there[0]}.jpg").write_bytes(b"nothing")
        with pytest.raises(UnreadableImageError, match=rf"{there[0]}\.jpg"):
            boxed.read(there[0])


def test_unknown_and_missing_sets_are_errors(tmp_path):
    with pytest.raises(ValueError, match="'voc11': choose one of voc07, voc12, coco20k"):
        open_boxed_set("voc11", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"VOC2012/ImageSets/Main/trainval\.txt"):
        read_boxes("voc12", tmp_path)
    write_voc(tmp_path, "1\n2\n", i1=annotation())
    with pytest.raises(FileNotFoundError, match=r"VOC2007/Annotations/2\.xml.*trainval\.txt names"):
        read_boxes("voc07", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"{COCO_FILE_LIST}.*LOST"):
        read_boxes("coco20k", tmp_path)
    write_coco(tmp_path)
    (tmp_path / "COCO/annotations/instances_train2014.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"annotations/instances_train2014\.json"):
        read_boxes("coco20k", tmp_path)


def test_real_voc07(reference_data):
    boxed = open_boxed_set("voc07", reference_data)
    # The 12,608 objects of the benchmark's own statistics and 3,054 difficult ones.
    assert (len(boxed.boxes), sum(map(len, boxed.boxes.values()))) == (5011, 15662)
    assert boxed.boxes["000005"][0] == (262, 210, 324, 339)
    assert len(boxed.paths) == 200
    for name in list(boxed.paths)[:20]:
        height, width, _ = boxed.read(name).shape
        for x_min, y_min, x_max, y_max in boxed.boxes[name]:
            assert 0 <= x_min < x_max <= width
            assert 0 <= y_min < y_max <= height


def test_real_photographs_of_coco(reference_data, tmp_path):
    root = reference_data / "COCO"
    paths = sorted((root / "val2017").iterdir())
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"val2017/{path.name}\n" for path in paths))
    _, boxes = read_coco(listing, root / "annotations/instances_val2017.json")
    # 407 annotations, five of them crowds.
    assert (len(boxes), sum(map(len, boxes.values()))) == (40, 402)
    for path in paths[:10]:
        height, width, _ = read_image(path).shape
        for x_min, y_min, x_max, y_max in boxes[path.stem]:
            assert 0 <= x_min <= x_max <= width
            assert 0 <= y_min <= y_max <= height


def test_real_file_list_of_coco(reference_data, tmp_path):
    lines = (reference_data / "COCO" / COCO_FILE_LIST).read_text()
    names = [line.split("/")[1] for line in lines.split()]
    content = {
        "images": [image(number, name) for number, name in enumerate(names)],
        "annotations": [thing(number, number, 0, 1, 1) for number in range(len(names))],
    }
    write_coco(tmp_path, lines, content)
    boxes = read_boxes("coco20k", tmp_path)
    assert len(boxes) == 19817
    assert boxes["COCO_train2014_000000396626"] == [(1, 0, 2, 1)]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_boxes_of_an_image_before_its_rotation(tmp_path, orientation, caplog):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png", exif=exif)
    boxed = BoxedSet({"a": tmp_path / "a.png"}, {"a": [(1.0, 2.0, 9.0, 6.0)]})
    with caplog.at_level("WARNING", logger="absl"):
        if orientation == 6:
            with pytest.raises(UnreadableImageError, match="beyond its 6x9 pixels: they fit only"):
                boxed.read("a")
        else:
            assert boxed.read("a").shape == (6, 9, 3)
    assert ("a.png is turned by its EXIF orientation 3" in caplog.text) == (orientation == 3)
