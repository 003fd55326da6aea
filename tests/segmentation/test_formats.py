"""Masks as COCO and YOLO: as others read them, once more, in shards and for several objects."""

import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from sempart_jax.segmentation.collection import segment
from sempart_jax.segmentation.formats import polygon
from sempart_jax.segmentation.inputs import Shard
from tests.segmentation.red_images import red_segmenter, red_square, write_red

# Where pycocotools decodes: its arrays are older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def photos(tmp_path):
    """A square, two parts of which one has a hole, and nothing."""
    write_red(tmp_path / "photos/a/one.png", 40, 60)
    two = red_square(90, 120, (10, 60), (5, 65))
    two[25:45, 20:50] = (0, 0, 200)
    two[50:80, 80:115] = (255, 40, 0)
    Image.fromarray(two).save(tmp_path / "photos/two.png")
    write_red(tmp_path / "photos/none.png", rows=(0, 0))
    return tmp_path / "photos"


def run(out, *arguments, **options):
    return segment([str(argument) for argument in arguments], out, red_segmenter(), **options)


def coco_masks(out):
    """Masks of each file name as pycocotools reads them, and their boxes as drawn from them."""
    coco = COCO(out / "annotations.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["foreground"]
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        found[image["file_name"]] = masks = []
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation) > 0
            assert mask.shape == (image["height"], image["width"])
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            assert annotation["area"] == mask.sum()
            masks.append(mask)
    return found


def written_masks(out):
    found = {}
    for path in sorted((out / "masks").rglob("*.png")):
        values = np.asarray(Image.open(path))
        name = path.relative_to(out / "masks").as_posix()
        found[name] = [values == number for number in np.unique(values[values > 0])]
    return found


def filled(points, height, width, scale=8):
    picture = Image.new("1", (width * scale, height * scale))
    corners = [tuple(scale * point - 0.5) for point in points]
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    return np.asarray(picture)[scale // 2 :: scale, scale // 2 :: scale]


def iou(one, other):
    return np.sum(one & other) / np.sum(one | other)


def assert_equal_masks(found, expected):
    assert found.keys() == expected.keys()
    for name, masks in expected.items():
        np.testing.assert_array_equal(np.array(found[name]), np.array(masks), name)


@pytest.mark.parametrize(("objects", "counts"), [(1, [1, 0, 1]), (254, [1, 0, 2]), (3, [1, 0, 2])])
def test_masks_are_those_of_the_pictures(photos, tmp_path, objects, counts):
    out = tmp_path / "out"
    run(out, photos, objects=objects, formats=["coco", "yolo"])
    expected = written_masks(out)
    assert [len(masks) for masks in expected.values()] == counts
    assert_equal_masks(coco_masks(out), expected)
    for name, masks in expected.items():
        rows = (out / "yolo/labels" / name).with_suffix(".txt").read_text().splitlines()
        for row, mask in zip(rows, masks, strict=True):
            number, *numbers = row.split()
            points = np.array(numbers, float).reshape(-1, 2)
            assert number == "0"
            assert points.min() >= 0
            assert points.max() <= 1
            drawn = filled(points * np.flip(mask.shape), *mask.shape)
            assert iou(drawn, mask) >= 0.97
    assert (out / "yolo/classes.txt").read_text() == "foreground\n"
    assert f'path: "{out / "yolo"}"\n' in (out / "yolo/data.yaml").read_text()


def test_polygons_follow_any_mask():
    rows, columns = np.mgrid[:200, :300]
    disc = (rows - 100) ** 2 + (columns - 120) ** 2 < 70**2
    hole = (rows - 90) ** 2 + (columns - 110) ** 2 < 30**2
    corner = (rows - 10) ** 2 + (columns - 290) ** 2 < 40**2
    for mask in (disc, disc & ~hole, (disc & ~hole) | corner, ~disc, np.ones((9, 7), bool)):
        assert iou(filled(polygon(mask), *mask.shape), mask) > 0.98
    # A single pixel has a line around it, too.
    assert len(polygon(rows + columns == 0)) > 3


def test_formats_can_be_asked_for_later_and_hold_the_whole_folder(photos, tmp_path, caplog):
    out = tmp_path / "out"
    run(out, photos / "two.png")
    assert not (out / "annotations.json").exists()
    assert run(out, photos / "two.png", formats=["coco"]).done == 0
    assert list(coco_masks(out)) == ["two.png"]
    # Another call that does not renew them says so.
    run(out, photos)
    assert "annotations.json is of an earlier call: give --format=coco to renew it" in caplog.text
    caplog.clear()
    assert run(out, photos / "two.png", formats=["coco"]).skipped == 1
    assert_equal_masks(coco_masks(out), dict(sorted(written_masks(out).items())))
    assert not caplog.text
    (out / "masks/none.png").unlink()
    run(out, photos / "two.png", formats=["coco"])
    assert list(coco_masks(out)) == ["a/one.png", "two.png"]
    assert "none.png is gone, and left out" in caplog.text
    # Images of other settings are no longer the folder's.
    run(out, photos / "a", formats=["coco"], overwrite=True, threshold=0.25)
    assert list(coco_masks(out)) == ["one.png"]


def test_the_last_shard_writes_all(photos, tmp_path):
    out = tmp_path / "out"
    for index in range(3):
        run(out, photos, formats=["coco", "yolo"], shard=Shard(index, 3))
    assert_equal_masks(coco_masks(out), written_masks(out))
    assert len(list((out / "yolo/labels").rglob("*.txt"))) == 3


def test_files_of_others_are_not_replaced(photos, tmp_path):
    out = tmp_path / "out"
    for name in ("annotations.json", "yolo/labels/one.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
        kind = "coco" if name.endswith("json") else "yolo"
        with pytest.raises(ValueError, match="was not written by this program: choose another"):
            run(out, photos, formats=[kind])
        assert (out / name).read_text() == "mine"
    assert not (out / "masks").exists()


def test_names_that_are_no_utf_8_are_kept(tmp_path):
    photo = tmp_path / "photos" / "caf\udce9.png"
    try:
        write_red(photo)
    except OSError:
        pytest.skip("the file system takes names of UTF-8 alone")
    run(tmp_path / "out", photo, formats=["coco", "yolo"])
    images = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
    assert images[0]["file_name"] == photo.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["voc"]}, "--format is some of coco, yolo, each once, got 'voc'"),
        ({"formats": ["yolo", "yolo"]}, "each once"),
        ({"formats": ["yolo"], "mask": "soft"}, "leave --mask=soft out"),
        ({"formats": ["yolo"], "outputs": ["overlay"]}, "leave mask among --outputs"),
    ],
)
def test_what_cannot_be_is_told_first(photos, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", photos, **options)
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_told_first(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[coco\]'"):
        run(tmp_path / "out", photos, formats=["coco"])
    assert not (tmp_path / "out").exists()
