"""Benchmarks by name, prepared or unpacked."""

import numpy as np
import pytest
from absl import logging

from sempart_jax.data.benchmarks import BENCHMARKS, open_labelled_set
from sempart_jax.data.builders import prepare
from sempart_jax.data.labelled import LabelledFolder, PreparedSet
from tests.data.labelled_files import write_unpacked


def test_prepared_and_unpacked_are_the_same(prepared, tmp_path):
    # What is prepared comes before what is unpacked.
    write_unpacked("ecssd", prepared, ["z"])
    labelled = open_labelled_set("ecssd", prepared)
    files = open_labelled_set("ecssd", tmp_path / "files")
    assert isinstance(labelled, PreparedSet)
    assert isinstance(files, LabelledFolder)
    assert list(labelled.names) == list(files.names) == ["a", "b", "c", "d"]
    assert labelled.published_images == files.published_images == 1000
    for index in (3, 0, 2, 1):
        for ours, theirs in zip(labelled[index], files[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_unpacked_split_beside_another_that_is_prepared(tmp_path):
    write_unpacked("duts_te", tmp_path, ["a"])
    prepare("duts", tmp_path, download=False)
    write_unpacked("duts_tr", tmp_path, ["b", "c"])
    assert isinstance(open_labelled_set("duts_te", tmp_path), PreparedSet)
    assert isinstance(open_labelled_set("duts_tr", tmp_path), LabelledFolder)
    with pytest.raises(ValueError, match="holds no split train, but test"):
        PreparedSet(tmp_path / "tfds/duts/1.0.0", "train")


def test_images_without_mask_are_left_out_with_one_warning(tmp_path, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    write_unpacked("duts_te", tmp_path, [f"{number}" for number in range(9)])
    masks = tmp_path / BENCHMARKS["duts_te"].masks
    for number in range(1, 8):
        (masks / f"{number}.png").unlink()
    assert list(open_labelled_set("duts_te", tmp_path).names) == ["0", "8"]
    (line,) = lines
    assert "duts_te: left out 7 images: 1.jpg has no mask, 2.jpg has no mask" in line
    assert line.endswith("and 2 more")
    (masks / "0.png").rename(masks / "x.png")
    (masks / "8.png").rename(masks / "y.png")
    with pytest.raises(FileNotFoundError, match=r"no image in .* has one mask.*0\.jpg has no mask"):
        open_labelled_set("duts_te", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_benchmark_tells_the_command(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        open_labelled_set(name, tmp_path)
    text = str(caught.value)
    assert f"python scripts/prepare_data.py {name} --data_root {tmp_path}" in text
    assert str(tmp_path / "tfds" / BENCHMARKS[name].prepared) in text
    assert str(tmp_path / BENCHMARKS[name].images) in text
    assert f"no folder {tmp_path / BENCHMARKS[name].masks}" in text


def test_an_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"'voc'.*duts_tr, duts_te, dut_omron, ecssd"):
        open_labelled_set("voc", tmp_path)


@pytest.mark.parametrize(("name", "count"), [("duts_tr", 1200), ("duts_te", 300), ("ecssd", 300)])
def test_real_benchmarks(reference_data, name, count):
    labelled = open_labelled_set(name, reference_data)
    assert len(labelled) == count
    name, image, ground_truth = labelled[count // 2]
    assert image.shape[:2] == ground_truth.shape
