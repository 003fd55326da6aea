"""From predicted masks to files and records."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from sempart_jax.data.folder import PRODUCT_FOLDERS
from sempart_jax.data.image_sizes import resize
from sempart_jax.data.images import Photograph, read_grey, read_image, read_photograph
from sempart_jax.metrics.localization import largest_box, largest_component
from sempart_jax.predict.method_step import enlarge
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.segmentation.drawing import COLOURS, cutout, overlay
from sempart_jax.segmentation.finishing import (
    Finisher,
    UnfinishedImageError,
    UnwritableOutputError,
    keep_component,
)
from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.objects import expected_iou
from sempart_jax.segmentation.outputs import OutputFolder
from sempart_jax.segmentation.records import RecordFile
from tests.segmentation.red_images import red_segmenter, red_square

FILE = ImageFile(Path("/photos/a.jpg"), "sub/a")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IMAGE = red_square(60, 90, (10, 40), (20, 50))


def soft_mask():
    """Two squares with soft edges, at half the size of the image."""
    mask = np.zeros((30, 45), np.float32)
    mask[5:20, 10:25] = 0.95
    mask[22:28, 30:40] = 0.8
    return mask


def finish(
    root,
    mask=None,
    image=IMAGE,
    file=FILE,
    refine="guided",
    error=None,
    more=(),
    numbered=False,
    **options,
):
    segmenter = red_segmenter(refine=refine)
    if numbered:
        segmenter.predictor.numbered, segmenter.predictor.fit = True, enlarge
    if error is not None:

        def fail(image, mask):
            raise error

        segmenter.finish = fail
    options = {"kinds": tuple(PRODUCT_FOLDERS), "soft": False, "threshold": 0.5, **options}
    options = {"only_largest": False, "settings": "s", **options}
    root.mkdir(exist_ok=True)
    with (
        OutputFolder(root, "0-of-1") as outputs,
        RecordFile(root / "masks.jsonl", []) as records,
    ):
        finisher = Finisher(segmenter, outputs, records, **options)
        photograph = Photograph(image, *more)
        finisher(file, "1 2", photograph, soft_mask() if mask is None else mask, 0.5)
    lines = [json.loads(line) for line in (root / "masks.jsonl").read_text().splitlines()]
    return lines[0] if options.get("most_objects", 1) == 1 else lines


def refined():
    return postprocess("guided", IMAGE, np.clip(resize(soft_mask(), 60, 90), 0, 1))


def test_files_and_record_are_of_the_mask_refined_at_the_size_of_the_image(tmp_path):
    record = finish(tmp_path)
    mask = refined()
    binary = mask > 0.5
    np.testing.assert_array_equal(read_grey(tmp_path / "masks/sub/a.png"), binary * np.uint8(255))
    with Image.open(tmp_path / "cutouts/sub/a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), cutout(IMAGE, mask))
    drawn = read_image(tmp_path / "overlays/sub/a.jpg").astype(int)
    assert np.abs(drawn - overlay(IMAGE, mask, binary)).mean() < 3
    assert record.pop("seconds") > 0.5
    assert record == {
        "image": "/photos/a.jpg",
        "name": "sub/a",
        "mask": "masks/sub/a.png",
        "overlay": "overlays/sub/a.jpg",
        "cutout": "cutouts/sub/a.png",
        "height": 60,
        "width": 90,
        "box": list(largest_box(mask)),
        "area": pytest.approx(binary.mean(), abs=1e-6),
        "confidence": pytest.approx(expected_iou(mask, binary), abs=1e-6),
        "stamp": "1 2",
        "settings": "s",
    }


def test_kinds_soft_masks_and_thresholds(tmp_path):
    mask = refined()
    record = finish(tmp_path / "soft", soft=True, kinds=["mask"])
    assert {"mask", "overlay", "cutout"} & set(record) == {"mask"}
    assert {path.name for path in (tmp_path / "soft").iterdir()} == {"masks", "masks.jsonl"}
    written = read_grey(tmp_path / "soft/masks/sub/a.png")
    np.testing.assert_array_equal(written, np.rint(mask * 255))
    high = finish(tmp_path / "high", threshold=0.9)
    assert high["area"] == pytest.approx((mask > 0.9).mean(), abs=1e-6)
    assert high["area"] < record["area"]
    np.testing.assert_array_equal(read_grey(tmp_path / "high/masks/sub/a.png") > 0, mask > 0.9)


@pytest.mark.parametrize("refine", ["none", "guided"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_cut_out_is_never_more_opaque_than_its_picture(tmp_path, refine, soft):
    alpha = np.random.default_rng(0).integers(0, 256, (60, 90)).astype(np.uint8)
    finish(tmp_path, 1 - soft_mask(), refine=refine, soft=soft, more=(alpha,))
    with Image.open(tmp_path / "cutouts/sub/a.png") as picture:
        cut = np.asarray(picture)
    assert np.all(cut[..., 3] <= alpha)
    assert np.any(cut[..., 3] == alpha)
    np.testing.assert_array_equal(cut[..., :3], IMAGE)


def test_cut_out_and_overlay_have_the_colours_of_their_picture(tmp_path):
    finish(tmp_path, more=(None, SRGB))
    for name, profile in (("cutouts/sub/a.png", SRGB), ("overlays/sub/a.jpg", SRGB)):
        assert read_photograph(tmp_path / name).profile == profile
    with Image.open(tmp_path / "masks/sub/a.png") as mask:
        assert "icc_profile" not in mask.info


def test_largest_component_alone_has_the_same_box(tmp_path):
    whole = finish(tmp_path / "whole")
    alone = finish(tmp_path / "alone", only_largest=True)
    assert alone["box"] == whole["box"]
    assert 0 < alone["area"] < whole["area"]
    mask = read_grey(tmp_path / "alone/masks/sub/a.png") > 0
    x_min, y_min, x_max, y_max = alone["box"]
    assert mask.sum() == mask[y_min:y_max, x_min:x_max].sum() > 0
    with Image.open(tmp_path / "alone/cutouts/sub/a.png") as picture:
        alpha = np.asarray(picture)[..., 3]
    assert not alpha[44:56, 62:78].any()
    assert alpha[20, 30] > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)])
def test_odd_sizes_and_empty_masks(tmp_path, size):
    image = red_square(*size, (0, 1), (0, 1))
    for refine in ("none", "guided", "bilateral"):
        record = finish(tmp_path, image=image, refine=refine)
        assert (record["height"], record["width"]) == size
        assert read_grey(tmp_path / "masks/sub/a.png").shape == size
    for only_largest in (False, True):
        record = finish(tmp_path, np.zeros((8, 8), np.float32), image, only_largest=only_largest)
        assert (record["box"], record["area"], record["confidence"]) == (None, 0, 0)


def test_what_fails_for_one_image_alone_is_told_of_it(tmp_path):
    with pytest.raises(UnfinishedImageError, match="not enough memory for 90x60 pixels"):
        finish(tmp_path, error=MemoryError())
    with pytest.raises(UnfinishedImageError, match="its output cannot be written: File name too"):
        finish(tmp_path, file=ImageFile(FILE.path, "x" * 300))
    assert (tmp_path / "masks.jsonl").read_text() == ""
    message = "cannot write the outputs of /photos/a.jpg: No space left on device; what is finished"
    with pytest.raises(UnwritableOutputError, match=message):
        finish(tmp_path, error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_largest_component_is_that_of_the_largest_box(binary):
    component = largest_component(binary)
    assert not np.any(component & ~binary)
    assert largest_box(component) == largest_box(binary)


def test_other_components_and_their_rims_are_removed():
    mask = np.zeros((64, 64), np.float32)
    mask[8:24, 8:24] = 0.9
    mask[24:26, 8:24] = 0.3
    mask[40:48, 40:48] = 0.8
    mask[48:50, 40:48] = 0.4
    # Beside the component, but one of its own: the radius of 2 reaches it.
    mask[8:10, 25:27] = 0.7
    component = largest_component(mask > 0.5)
    assert component.sum() == 256
    kept = keep_component(mask, mask > 0.5, component)
    expected = mask.copy()
    expected[40:50, 40:48] = 0
    expected[8:10, 25:27] = 0
    np.testing.assert_array_equal(kept, expected)
    assert kept.dtype == np.float32


def index_picture(path):
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.reshape(picture.getpalette(), (-1, 3))[:3], COLOURS[:3])
        return np.asarray(picture)


@pytest.mark.parametrize("numbered", [False, True])
def test_objects_have_an_index_in_the_mask_and_a_row_each(tmp_path, numbered):
    predicted = soft_mask()
    if numbered:
        # Two that touch, and that no shape would tell apart.
        predicted = np.zeros((30, 45), np.float32)
        predicted[5:20, 10:25] = 2
        predicted[5:20, 25:32] = 1
    rows = finish(tmp_path, predicted, most_objects=5, numbered=numbered)
    labels = index_picture(tmp_path / "masks/sub/a.png")
    assert set(np.unique(labels)) == {0, 1, 2}
    assert [(row["object"], row["objects"]) for row in rows] == [(1, 2), (2, 2)]
    for row in rows:
        own = labels == row["object"]
        assert row["box"] == list(largest_box(own))
        assert row["area"] == pytest.approx(own.mean(), abs=1e-6)
        assert 0.5 < row["confidence"] < 1
        assert (row["mask"], row["stamp"], row["settings"]) == ("masks/sub/a.png", "1 2", "s")
    assert rows[0]["area"] > rows[1]["area"]
    # To learn from, all objects are foreground.
    np.testing.assert_array_equal(read_grey(tmp_path / "masks/sub/a.png") > 0, labels > 0)
    drawn = read_image(tmp_path / "overlays/sub/a.jpg").astype(int)
    for (x_min, y_min, x_max, y_max), colour in zip(
        (r["box"] for r in rows), COLOURS[1:], strict=False
    ):
        place = (y_min + y_max) // 2, (x_min + x_max) // 2
        expected = 0.42 * colour + 0.58 * IMAGE[place].astype(int)
        assert np.abs(drawn[place] - expected).max() < 25


@pytest.mark.parametrize("most_objects", [1, 3])
def test_no_object_is_told_and_written_as_an_empty_mask(tmp_path, caplog, most_objects):
    rows = finish(tmp_path, most_objects=most_objects, least_confidence=0.99)
    (row,) = [rows] if most_objects == 1 else rows
    assert (row["box"], row["area"]) == (None, 0)
    assert 0.5 < row["confidence"] < 0.99
    assert row.get("objects", 0) == row.get("object", 0) == 0
    assert not read_grey(tmp_path / "masks/sub/a.png").any()
    with Image.open(tmp_path / "cutouts/sub/a.png") as picture:
        assert not np.asarray(picture)[..., 3].any()
    told = "/photos/a.jpg: no object, the mask is empty (confidence {:.3f}, --least_confidence={})"
    assert told.format(row["confidence"], 0.99) in caplog.text
    caplog.clear()
    finish(tmp_path, most_objects=most_objects, least_confidence=row["confidence"] - 0.01)
    assert not caplog.text
    # One foreground is empty without a word, as nobody has asked whether there is one.
    finish(tmp_path, np.zeros((8, 8), np.float32), most_objects=most_objects)
    assert bool(caplog.text) is (most_objects > 1)
