"""What there is of data sets, given masks and given boxes."""

import json

from PIL import Image

from sempart_jax.reproduction.data_sets import DataSets, digest
from tests.reproduction.layouts import write_voc07


def test_images_are_counted_once_and_what_is_missing_is_told_once(data_root, capsys):
    data = DataSets(data_root)
    assert data.images("ecssd") == 2
    assert data.images("dut_omron") is None
    assert data.images("voc07") is None
    printed = capsys.readouterr().out
    assert "# skipped: dut_omron: " in printed
    assert "prepare_data.py dut_omron" in printed
    (data_root / "ECSSD" / "images" / "scene_0001.png").unlink()
    assert data.images("ecssd") == 2
    assert data.images("dut_omron") is None
    assert capsys.readouterr().out == ""


def test_given_masks_are_told_apart(data_root, tmp_path):
    data, folder = DataSets(data_root), tmp_path / "masks"
    assert data.identify_masks(folder, "ecssd") is None
    (folder / "ecssd").mkdir(parents=True)
    Image.new("L", (8, 8)).save(folder / "ecssd" / "scene_0000.png")
    before = data.identify_masks(folder, "ecssd")
    assert before.startswith("2 images, masks ")
    assert data.identify_masks(folder, "ecssd") == before
    Image.new("L", (9, 8)).save(folder / "ecssd" / "scene_0000.png")
    assert data.identify_masks(folder, "ecssd") != before
    (folder / "dut_omron").mkdir()
    assert data.identify_masks(folder, "dut_omron") is None


def test_given_boxes_are_told_apart_and_need_annotations_alone(data_root, tmp_path):
    write_voc07(data_root, images=[])
    data, file = DataSets(data_root), tmp_path / "voc07.json"
    file.write_text(json.dumps({"000000": [0, 0, 2, 2]}))
    before = data.identify_boxes(file, "voc07")
    assert before.startswith("3 images, boxes ")
    file.write_text(json.dumps({"000000": [0, 0, 2, 3]}))
    assert data.identify_boxes(file, "voc07") != before
    assert data.identify_boxes(file, "voc12") is None
    assert data.images("voc07") is None


def test_digest():
    # The first 64 bits of SHA-256 of "abc" (FIPS 180-2).
    assert digest(b"abc") == "ba7816bf8f01cfea"
