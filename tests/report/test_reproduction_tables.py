"""Ours beside published numbers."""

import json

import pytest

from sempart_jax.report.published import LOCALIZATION_DATASETS, SALIENCY_DATASETS
from sempart_jax.report.reproduction import DATASETS, TABLES
from sempart_jax.report.reproduction_tables import (
    compare,
    comparison_table,
    format_difference,
    format_value,
    line_records,
    tables_document,
)


def scored(dataset="ecssd", postprocessing="none", protocol="crop320", images=1000, **scores):
    return {
        "dataset": dataset,
        "protocol": protocol,
        "foreground_rule": "batch",
        "postprocessing": postprocessing,
        "images": images,
        "published_images": 1000,
        **scores,
    }


def saliency(iou, **labels):
    return scored(accuracy=0.9, iou=iou, max_f_beta=0.8, **labels)


def results(*rows):
    return {
        "saliency": [row for row in rows if "iou" in row],
        "localization": [row for row in rows if "corloc" in row],
    }


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("iou", 0.0016, "+0.002"),
        ("iou", -0.123, "-0.123"),
        ("iou", -0.0004, "0.000"),
        ("iou", 0.0, "0.000"),
        ("corloc", -2.26, "-2.3"),
        ("corloc", 0.04, "0.0"),
        ("corloc", 13.0, "+13.0"),
        ("iou", None, "–"),
        ("iou", float("nan"), "–"),
    ],
)
def test_differences_have_a_sign_and_the_published_digits(metric, value, text):
    assert format_difference(metric, value) == text


def test_values_have_the_published_digits():
    assert format_value("iou", 0.68449) == "0.684"
    assert format_value("corloc", 61.9038) == "61.9"
    assert format_value("iou", None) == format_value("iou", float("nan")) == "–"


def test_ours_stands_beside_the_row_of_its_post_processing():
    found = {
        "baseline": results(saliency(0.5), saliency(0.55, postprocessing="bilateral")),
        "tricks": results(
            saliency(0.1),
            saliency(0.7, postprocessing="guided"),
            saliency(0.2, postprocessing="guided", protocol="native"),
            saliency(0.3, postprocessing="guided", dataset="duts_te"),
        ),
    }
    lines = [line for line in compare(1, ["ecssd"], found) if line.scores]
    assert [
        (line.row.method, line.row.postprocessing, line.ours("iou"), line.candidate.origin)
        for line in lines
    ] == [
        ("Sempart (re-implemented)", "none", 0.5, "baseline"),
        ("two tricks", "guided", 0.7, "tricks"),
        ("Sempart (re-implemented)", "bilateral", 0.55, "baseline"),
    ]
    assert [line.difference("iou") for line in lines] == pytest.approx([-0.353, -0.162, -0.299])
    assert [line.difference("accuracy") for line in lines] == pytest.approx([-0.05, -0.052, -0.05])


@pytest.mark.parametrize("table", TABLES)
def test_without_anything_of_ours_every_published_number_stays(table):
    lines = compare(table, DATASETS, {})
    datasets = LOCALIZATION_DATASETS if table in (2, 4) else SALIENCY_DATASETS
    rows = {1: 15, 2: 7, 3: 12, 4: 4, 5: 6}[table]
    assert len(lines) == rows * 3
    assert {line.dataset for line in lines} == set(datasets)
    for record in line_records(table, lines):
        assert record["ours"] is record["difference"] is record["origin"] is None
        assert record["published"] > 0
    assert len(comparison_table(table, lines).rows) == rows * 3


def test_masks_of_others_are_shown_under_each_protocol_and_boxes_beside_masks():
    masks = {
        "masks/tokencut": results(
            saliency(0.6),
            saliency(0.75, protocol="native"),
            scored("voc07", protocol="native", corloc=60.0),
        ),
        "boxes/tokencut/voc07": results(scored("voc07", protocol="boxes", corloc=68.9)),
    }
    lines = [line for line in compare(5, ["ecssd"], masks) if line.scores]
    assert [(line.candidate.protocol, line.ours("iou")) for line in lines] == [
        ("native", 0.75),
        ("crop320", 0.6),
    ]
    lines = [line for line in compare(2, ["voc07"], masks) if line.scores]
    assert [line.difference("corloc") for line in lines] == pytest.approx([0.1, -8.8])


def test_methods_that_are_computed_here_are_named_with_their_backbone():
    computed = {"methods/lost": results(scored("voc07", protocol="native", corloc=55.0))}
    lines = [line for line in compare(2, ["voc07"], computed) if line.scores]
    assert [(line.row.method, line.ours("corloc")) for line in lines] == [("LOST", 55.0)]
    table = comparison_table(2, lines)
    assert table.rows[0][4:6] == ("native", "methods/lost")
    assert any("ViT-S/16" in note for note in table.notes)
    given = {"masks/lost": computed["methods/lost"]}
    lines = [line for line in compare(2, ["voc07"], given) if line.scores]
    assert not any("ViT-S/16" in note for note in comparison_table(2, lines).notes)


def test_students_stand_beside_their_rows():
    found = {"selfmask_tricks": results(saliency(0.8), saliency(0.7, protocol="native"))}
    lines = [line for line in compare(1, ["ecssd"], found) if line.scores]
    assert {line.row.method for line in lines} == {"SelfMask on two tricks"}
    assert [line.difference("iou") for line in lines] == pytest.approx([-0.052, -0.152])


def test_f_measures_of_two_kinds_have_no_difference():
    found = {"masks/found": results(saliency(0.8, protocol="native"))}
    lines = [line for line in compare(1, ["ecssd"], found) if line.scores]
    (line,) = lines
    assert line.ours("max_f_beta") == 0.8
    assert line.difference("max_f_beta") is None
    assert line.difference("iou") == pytest.approx(0.007)
    table = comparison_table(1, lines)
    assert table.rows[0][-3:] == ("0.800", "0.946†", "–")
    assert any(note.startswith("† ") and "0.09" in note for note in table.notes)
    *others, f_beta = line_records(1, lines)
    assert f_beta["metric"] == "max_f_beta"
    assert "0.09" in f_beta["notes"][0]
    assert not any(record["notes"] for record in others)


def test_a_part_of_a_data_set_is_named():
    whole = compare(3, ["ecssd"], {"baseline": results(saliency(0.5))})
    part = compare(3, ["ecssd"], {"baseline": results(saliency(0.5, images=300))})
    assert comparison_table(3, whole).rows[0][3] == "1,000"
    assert comparison_table(3, part).rows[0][3] == "300 of 1,000"
    assert not any("part of the data set" in note for note in comparison_table(3, whole).notes)
    assert any("part of the data set" in note for note in comparison_table(3, part).notes)
    assert "part of the data set" in line_records(3, part)[0]["notes"][0]
    assert line_records(3, whole)[0]["notes"] == []


def test_ablations_are_named_by_their_tricks():
    titles = [row[0] for row in comparison_table(3, compare(3, ["ecssd"], {})).rows]
    assert titles[:5] == [
        "dino_vits8: no trick",
        "dino_vits8: Crop",
        "dino_vits8: GF",
        "dino_vits8: Crop + GF",
        "dino_vits16: no trick",
    ]


def test_document_and_records():
    found = {"baseline": results(scored("voc07", corloc=70.0, protocol="native"))}
    lines = {number: compare(number, ["voc07"], found) for number in (1, 2)}
    text = tables_document(
        lines,
        train_args="--config.steps=1",
        method_args="--resolution 32",
        remarks={"not run": ["a [x]"], "failed": []},
    )
    assert "Table 1" not in text
    assert "## Table 2 of arXiv 2404.03392: Single object detection" in text
    assert "| baseline | paper | 70.0 | 71.7 | -1.7 |" in text
    assert "Every training had these further arguments: `--config.steps=1`" in text
    assert "Every method in methods/ had these further arguments: `--resolution 32`" in text
    assert "## Not run\n\n- `a [x]`" in text
    assert "Failed" not in text
    assert "further arguments" not in tables_document(lines)
    json.dumps(line_records(2, lines[2]), allow_nan=False)
    record = next(row for row in line_records(2, lines[2]) if row["origin"])
    assert record["difference"] == pytest.approx(-1.7)
    assert (record["protocol"], record["foreground_rule"]) == ("native", "batch")
    assert (record["published_by"], record["published"]) == ("paper", 71.7)
