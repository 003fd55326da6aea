"""From predicted masks to files and records."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.folder import PRODUCT_FOLDERS
from sempart_jax.data.image_sizes import resize
from sempart_jax.data.images import read_grey, read_image
from sempart_jax.metrics.localization import largest_box
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.predict.predictor import stretch
from sempart_jax.segmentation.drawing import cutout, overlay
from sempart_jax.segmentation.finishing import (
    Finisher,
    UnfinishedImageError,
    UnwritableOutputError,
)
from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.measures import expected_iou
from sempart_jax.segmentation.outputs import OutputFolder
from sempart_jax.segmentation.records import RecordFile
from tests.segmentation.red_images import red_segmenter, red_square

FILE = ImageFile(Path("/photos/a.jpg"), "sub/a")
IMAGE = red_square(60, 90, (10, 40), (20, 50))


def soft_mask():
    """Two squares with soft edges, at half the size of the image."""
    mask = np.zeros((30, 45), np.float32)
    mask[5:20, 10:25] = 0.95
    mask[22:28, 30:40] = 0.8
    return mask


def finish(root, mask=None, image=IMAGE, file=FILE, **options):
    options = {
        "fit": stretch,
        "refine": red_segmenter(refine="guided").finish,
        "kinds": tuple(PRODUCT_FOLDERS),
        "soft": False,
        "threshold": 0.5,
        "only_largest": False,
        "settings": "s",
        **options,
    }
    root.mkdir(exist_ok=True)
    with (
        OutputFolder(root, "0-of-1") as outputs,
        RecordFile(root / "masks.jsonl", []) as records,
    ):
        finisher = Finisher(outputs=outputs, records=records, **options)
        finisher(file, "1 2", image, soft_mask() if mask is None else mask, 0.5)
    (line,) = (root / "masks.jsonl").read_text().splitlines()
    return json.loads(line)


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


def test_masks_are_brought_to_the_size_of_the_image_as_their_predictor_says(tmp_path):
    asked = []

    def fit(mask, height, width):
        asked.append((mask.shape, height, width))
        return np.ones((height, width), np.float32)

    record = finish(tmp_path, fit=fit, refine=lambda image, mask: mask)
    assert asked == [((30, 45), 60, 90)]
    assert record["area"] == 1


def test_only_the_kinds_that_are_wanted_are_written(tmp_path):
    record = finish(tmp_path, kinds=["cutout"])
    assert {"mask", "overlay", "cutout"} & set(record) == {"cutout"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cutouts", "masks.jsonl"]


def test_soft_masks_and_thresholds(tmp_path):
    record = finish(tmp_path / "soft", soft=True)
    mask = refined()
    written = read_grey(tmp_path / "soft/masks/sub/a.png")
    np.testing.assert_array_equal(written, np.rint(mask * 255))
    high = finish(tmp_path / "high", threshold=0.9)
    assert high["area"] == pytest.approx((mask > 0.9).mean(), abs=1e-6)
    assert high["area"] < record["area"]
    np.testing.assert_array_equal(read_grey(tmp_path / "high/masks/sub/a.png") > 0, mask > 0.9)


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


def test_empty_masks_have_no_box(tmp_path):
    empty = np.zeros((8, 8), np.float32)
    for only_largest in (False, True):
        record = finish(tmp_path, empty, only_largest=only_largest)
        assert (record["box"], record["area"], record["confidence"]) == (None, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)])
@pytest.mark.parametrize("name", ["none", "guided", "bilateral"])
def test_odd_sizes(tmp_path, size, name):
    image = red_square(*size, (0, 1), (0, 1))
    record = finish(tmp_path, image=image, refine=red_segmenter(refine=name).finish)
    assert (record["height"], record["width"]) == size
    assert read_grey(tmp_path / "masks/sub/a.png").shape == size


def failing(error):
    def refine(image, mask):
        raise error

    return refine


def test_what_fails_for_one_image_alone_is_told_of_it(tmp_path):
    with pytest.raises(UnfinishedImageError, match="not enough memory for 90x60 pixels"):
        finish(tmp_path, refine=failing(MemoryError()))
    with pytest.raises(UnfinishedImageError, match="its output cannot be written: File name too"):
        finish(tmp_path, file=ImageFile(FILE.path, "x" * 300))
    assert (tmp_path / "masks.jsonl").read_text() == ""


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = "cannot write the outputs of /photos/a.jpg: No space left on device; what is finished"
    with pytest.raises(UnwritableOutputError, match=message):
        finish(tmp_path, refine=failing(full))
