import textwrap
from pathlib import Path

import pytest

from sempart_jax.data.images import read_image
from sempart_jax.data.voc import find_images, image_path, read_boxes

OBJECT = """
    <object>
        <name>dog</name><truncated>{hard}</truncated><difficult>{hard}</difficult>
        <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
    </object>"""


def devkit(root: Path, ids: str, year: int = 2007, **annotations: str) -> Path:
    """Write a VOCdevkit with one list, ``trainval``; ``annotations`` by id without its ``i``."""
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / f"VOC{year}" / folder).mkdir(parents=True)
    (root / f"VOC{year}/ImageSets/Main/trainval.txt").write_text(ids)
    for name, text in annotations.items():
        (root / f"VOC{year}/Annotations/{name[1:]}.xml").write_text(text)
    return root


def annotation(*boxes: tuple[object, ...], hard: int = 0) -> str:
    objects = "".join(OBJECT.format(*box, hard=hard) for box in boxes)
    return f"<annotation><filename>x.jpg</filename>{objects}\n</annotation>\n"


def test_boxes_start_at_zero_in_the_order_of_the_list(tmp_path):
    root = devkit(
        tmp_path,
        "000009\n000005\n000007\n\n",
        i000005=annotation((1, 1, 500, 375), (48, 240, 195, 371)),
        i000007=annotation(),
        i000009=annotation((3, 4, 3, 4)),
        i000001="not read",
    )
    boxes = read_boxes(root, 2007)
    assert list(boxes.items()) == [
        ("000009", [(2, 3, 3, 4)]),
        ("000005", [(0, 0, 500, 375), (47, 239, 195, 371)]),
        ("000007", []),
    ]


def test_difficult_and_truncated_objects_count(tmp_path):
    root = devkit(tmp_path, "1", i1=annotation((1, 1, 5, 5), hard=1))
    assert read_boxes(root, 2007) == {"1": [(0, 0, 5, 5)]}


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
    root = devkit(tmp_path, "2011_003353\n", 2012, i2011_003353=text)
    assert read_boxes(root, 2012) == {"2011_003353": [(44.75, 7, 80, 90)]}


def test_missing_list_and_annotation_are_named(tmp_path):
    root = devkit(tmp_path, "1\n2\n", i1=annotation())
    with pytest.raises(FileNotFoundError, match=r"VOC2012/ImageSets/Main/trainval\.txt.*VOCdevkit"):
        read_boxes(root, 2012)
    with pytest.raises(FileNotFoundError, match=r"VOC2007/ImageSets/Main/val\.txt"):
        read_boxes(root, 2007, "val")
    with pytest.raises(FileNotFoundError, match=r"VOC2007/Annotations/2\.xml.*trainval\.txt names"):
        read_boxes(root, 2007)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("\n \n", r"trainval\.txt names no image"),
        ("1\n2\n1\n", r"trainval\.txt names image 1 twice"),
        ("1 -1\n2  1\n", r"trainval\.txt: '1 -1' is no image id.*not the list of a class"),
    ],
)
def test_damaged_list(tmp_path, ids, message):
    root = devkit(tmp_path, ids, i1=annotation(), i2=annotation())
    with pytest.raises(ValueError, match=message):
        read_boxes(root, 2007)


BOX = annotation((1, 2, 3, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no element found"),
        (BOX[:150], "no element found|unclosed"),
        ("<html></html>", "starts with <html>"),
        ("<?xml version='1.0' encoding='strange'?>" + BOX, "unknown encoding"),
        (BOX.replace("bndbox", "box"), "object 1: no field bndbox/xmin"),
        (BOX.replace("<ymax>4</ymax>", ""), "object 1: no field bndbox/ymax"),
        (annotation((1, 1, 2, 2), ("1", "", 2, 2)), "object 2: bndbox/ymin is ''"),
        (annotation(("nan", 1, 2, 2)), "object 1: bndbox/xmin is 'nan'"),
        (annotation((1, 1, 2, "two")), "object 1: bndbox/ymax is 'two'"),
        (annotation((3, 1, 2, 2)), "object 1: xmin 3, .* hold no pixel"),
        (annotation((1, 3, 2, 2)), "object 1: .*ymin 3, .* hold no pixel"),
    ],
)
def test_damaged_annotation(tmp_path, text, message):
    root = devkit(tmp_path, "1\n7\n", i1=BOX, i7=text)
    with pytest.raises(ValueError, match=rf"Annotations/7\.xml.*({message})"):
        read_boxes(root, 2007)


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE annotation [<!ENTITY one SYSTEM "file://{secret}">]>',
        '<!DOCTYPE annotation [<!ENTITY one "1">]>',
    ],
)
def test_entities_are_refused(tmp_path, declaration):
    secret = tmp_path / "secret.txt"
    secret.write_text("1")
    text = declaration.format(secret=secret) + annotation(("&one;", 1, 5, 5))
    root = devkit(tmp_path, "1", i1=text)
    with pytest.raises(ValueError, match=r"1\.xml .*declares a document type 'annotation'"):
        read_boxes(root, 2007)


def test_images_on_the_disk(tmp_path):
    root = devkit(tmp_path, "")
    ids = ["3", "1", "2"]
    with pytest.raises(FileNotFoundError, match=r"none of the 3 listed images is in .*JPEGImages"):
        find_images(root, 2007, ids)
    for name in ("1", "3", "unlisted"):
        (root / f"VOC2007/JPEGImages/{name}.jpg").touch()
    found = find_images(root, 2007, ids)
    assert list(found.items()) == [
        ("3", tmp_path / "VOC2007/JPEGImages/3.jpg"),
        ("1", tmp_path / "VOC2007/JPEGImages/1.jpg"),
    ]
    assert image_path(root, 2012, "2") == tmp_path / "VOC2012/JPEGImages/2.jpg"


def test_real_voc07(reference_data):
    root = reference_data / "VOCdevkit"
    boxes = read_boxes(root, 2007)
    # The 12,608 objects of the benchmark's own statistics and 3,054 difficult ones.
    assert (len(boxes), sum(map(len, boxes.values()))) == (5011, 15662)
    assert boxes["000005"][0] == (262, 210, 324, 339)
    listing = root / "VOC2007/ImageSets/Main/trainval.txt"
    assert list(boxes) == listing.read_text().split()
    images = find_images(root, 2007, boxes)
    assert len(images) == 200
    for name, path in list(images.items())[:20]:
        height, width, _ = read_image(path).shape
        for x_min, y_min, x_max, y_max in boxes[name]:
            assert 0 <= x_min < x_max <= width
            assert 0 <= y_min < y_max <= height
