"""Files: what a program reads back, and that none is ever half written."""

import csv
import dataclasses
import io
import json
import platform

import jax
import numpy as np
import pytest

import sempart_jax
from sempart_jax.metrics.saliency import F_THRESHOLDS, SaliencyScores
from sempart_jax.report.files import per_image_csv, results_to_dict, write_report

from . import hand_made

NAMES = ["per_image.csv", "report.html", "results.json", "tables.md"]


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


@pytest.fixture
def results():
    return results_to_dict(hand_made.evaluation())


def test_rows_say_themselves_what_they_are(results):
    assert results["schema"] == 1
    assert len(results["saliency"]) == 2 * 3
    row = results["saliency"][0]
    names = "dataset protocol foreground_rule postprocessing images published_images"
    metrics = "inverted_images accuracy iou max_f_beta mae"
    extra = "extra_mae extra_weighted_f extra_s_measure extra_max_e_measure extra_mean_e_measure"
    assert list(row) == f"{names} {metrics} {extra}".split()
    assert list(row.values())[:7] == ["ecssd", "crop320", "batch", "none", 3, 1000, 1]
    np.testing.assert_allclose(
        [row["accuracy"], row["iou"], row["max_f_beta"], row["mae"]],
        [0.75, 0.5, (1.3 * 0.5 / 1.15 + 0.8125 + 1) / 3, 0.25],
    )
    assert row["extra_s_measure"] == 0.75
    assert row["extra_mean_e_measure"] is None
    assert results["saliency"][2]["postprocessing"] == "centre box"
    assert results["saliency"][3]["published_images"] is None
    (boxes,) = results["localization"]
    assert list(boxes) == f"{names} corloc".split()
    assert list(boxes.values()) == ["voc07", "native", "image", "none", 5011, 5011, 71.66]
    assert results["versions"] == {
        "python": platform.python_version(),
        **{package.__name__: package.__version__ for package in (jax, np, sempart_jax)},
    }
    assert results["title"] == "run <1>"
    assert results["facts"] == {"run": "runs/a|b"}
    assert results["seconds"] == {"load": 1.0, "model": 2.0, "total": 4.0}
    assert results["left_out"] == [f"{hand_made.HOSTILE}: not readable"]


def test_curves_and_bins_stand_beside_the_same_labels(results):
    labels = ("dataset", "protocol", "foreground_rule", "postprocessing")
    keys = [[row[label] for label in labels] for row in results["saliency"]]
    for part in ("curves", "size_bins"):
        assert [[row[label] for label in labels] for row in results[part]] == keys
    assert results["thresholds"] == F_THRESHOLDS.tolist()
    curve = results["curves"][0]
    np.testing.assert_allclose(curve["precision"], [2.5 / 3] * 255)
    np.testing.assert_allclose(curve["recall"], [2.5 / 3] * 255)
    assert max(curve["f_beta"]) == results["saliency"][0]["max_f_beta"]
    assert results["size_bin_edges"] == [k / 20 for k in range(21)]
    bins = results["size_bins"][0]
    assert [index for index, count in enumerate(bins["images"]) if count] == [0, 5, 19]
    assert {i: iou for i, iou in enumerate(bins["iou"]) if iou is not None} == {5: 0.5, 19: 0.5}


def test_json_comes_back_as_it_was_and_has_no_nan(results, tmp_path):
    write_report(hand_made.evaluation(), [hand_made.examples()], tmp_path)
    text = (tmp_path / "results.json").read_text(encoding="ascii")
    assert json.loads(text, parse_constant=refuse) == results
    rows = [line for line in text.splitlines() if line.startswith("  {")]
    assert len(rows) == 3 * 6 + 1


def test_scores_that_are_not_defined_become_null(tmp_path):
    section = hand_made.saliency_section()
    empty = SaliencyScores()
    empty.update(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)))
    evaluation = hand_made.evaluation(
        saliency=(dataclasses.replace(section, scores={"none": empty}),),
        localization=(
            dataclasses.replace(hand_made.localization_section(), corloc={"none": np.nan}),
        ),
        seconds={"load": float("nan")},
    )
    write_report(evaluation, [], tmp_path)
    read = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert read["saliency"][0]["iou"] is None
    assert read["size_bins"][0]["iou"] == [None] * 20
    assert read["localization"][0]["corloc"] is None
    assert read["seconds"] == {"load": None}
    assert "| this evaluation | as predicted | crop320 | 1.0000 | – |" in (
        tmp_path / "tables.md"
    ).read_text().replace("**", "")


def test_a_line_an_image():
    other = dataclasses.replace(
        hand_made.saliency_section(protocol="native"),
        scores={"bilateral": hand_made.scores(*hand_made.GROUND_TRUTHS)},
    )
    text = per_image_csv([hand_made.saliency_section(), other])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    labels = ["dataset", "protocol", "image", "object_size", "inverted"]
    keys = ("none", "guided", "centre_box", "bilateral")
    assert list(rows[0]) == labels + [f"{m}_{key}" for key in keys for m in ("accuracy", "iou")]
    assert len(rows) == 6
    assert [row["image"] for row in rows[:3]] == ["a.jpg", hand_made.HOSTILE, "c.jpg"]
    assert [row["inverted"] for row in rows[:3]] == ["1", "0", "0"]
    assert [row["object_size"] for row in rows[:3]] == ["0.250000", "1.000000", "0.000000"]
    assert [row["accuracy_none"] for row in rows[:3]] == ["0.750000", "0.500000", "1.000000"]
    assert [row["iou_none"] for row in rows[:3]] == ["0.500000", "0.500000", ""]
    assert [row["iou_bilateral"] for row in rows] == ["", "", "", "1.000000", "1.000000", ""]


def test_files_are_utf_8_whatever_images_are_called_and_the_same_each_time(tmp_path):
    for folder in ("a", "b/c"):
        write_report(hand_made.evaluation(), [hand_made.examples()], tmp_path / folder)
    assert sorted(path.name for path in (tmp_path / "b/c").iterdir()) == NAMES
    for name in NAMES:
        content = (tmp_path / "a" / name).read_bytes()
        assert content.decode("utf-8")
        assert content == (tmp_path / "b/c" / name).read_bytes()
    with (tmp_path / "a/per_image.csv").open(encoding="utf-8", newline="") as file:
        names = [row["image"] for row in csv.DictReader(file)]
    assert names[1] == "<b>\"a\"&'b'|\\udcff.jpg"


def test_old_file_stays_whole_where_writing_fails(tmp_path, monkeypatch):
    write_report(hand_made.evaluation(), [], tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}

    def full_disk(path, target):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(hand_made.evaluation(title="another"), [], tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before
