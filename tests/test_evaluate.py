"""Scoring runs, saved masks and boxes through the command line and from Python."""

import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.evaluate import evaluate, read_given_boxes
from sempart_jax.evaluation.origin import Origin, saved_origin
from tests.commands import REPOSITORY, command_environment, run_module, run_train

PROTOCOLS = ("crop320", "native")


def write_data(root):
    """Write scenes laid out as ECSSD and DUTS-TE are."""
    ecssd, duts = root / "ECSSD", root / "DUTS/DUTS-TE"
    write_scenes(ecssd, 9, size=48, seed=0)
    (ecssd / "masks").rename(ecssd / "ground_truth_mask")
    write_scenes(duts, 3, size=40, seed=1)
    (duts / "images").rename(duts / "DUTS-TE-Image")
    (duts / "masks").rename(duts / "DUTS-TE-Mask")
    return ecssd, duts


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Scenes, masks of another method, and a run of one step."""
    root = tmp_path_factory.mktemp("evaluate")
    ecssd, duts = write_data(root / "data")
    for name, masks in (("ecssd", "ECSSD/ground_truth_mask"), ("duts_te", duts / "DUTS-TE-Mask")):
        (root / "masks" / name).mkdir(parents=True)
        for path in (root / "data" / masks).iterdir():
            # Everything one pixel to the right of where it is.
            shifted = np.roll(np.asarray(Image.open(path).convert("L")), 1, axis=1)
            Image.fromarray(shifted).save(root / "masks" / name / path.name)
    (root / "others").mkdir()
    Image.new("L", (40, 40), 255).save(root / "others" / "of_no_image.png")
    finished = run_train(root / "run", ecssd / "images", steps=1, config="baseline")
    assert finished.returncode == 0, finished.stderr
    return root


def results_in(report):
    return json.loads((report / "results.json").read_text())


def by_key(rows):
    return {(row["dataset"], row["protocol"], row["postprocessing"]): row for row in rows}


@pytest.mark.slow
def test_run_is_scored_under_both_protocols_with_all_postprocessings(root):
    arguments = [
        *("--workdir", root / "run", "--data_root", root / "data"),
        *("--datasets", "ecssd,duts_te", "--protocols", "crop320,native"),
        *("--postprocessings", "none,guided,bilateral,bilateral_16_16_8"),
    ]
    finished = run_module("evaluate", *arguments)
    assert finished.returncode == 0, finished.stderr
    report = root / "run/evaluation"
    results = results_in(report)
    rows = by_key(results["saliency"])
    masks = ("none", "guided", "bilateral", "bilateral_16_16_8", "centre box")
    assert set(rows) == {
        (dataset, protocol, mask)
        for dataset in ("ecssd", "duts_te")
        for protocol in PROTOCOLS
        for mask in masks
    }
    for (dataset, protocol, _), row in rows.items():
        assert row["images"] == {"ecssd": 9, "duts_te": 3}[dataset]
        assert row["published_images"] == {"ecssd": 1000, "duts_te": 5019}[dataset]
        assert row["foreground_rule"] == {"crop320": "batch", "native": "image"}[protocol]
        assert 0 < row["accuracy"] < 1
        assert 0 < row["iou"] < row["accuracy"]
        assert 0 < row["max_f_beta"] < 1
        numbers = rf"{row['accuracy']:.4f} +{row['iou']:.4f} +{row['max_f_beta']:.4f}"
        assert re.search(numbers, finished.stdout), finished.stdout
    assert re.search("ecssd: found 9 images, the published set has 1000", finished.stderr)
    stages = results["seconds"]
    assert {"load", "model", "post-processing", "metrics", "total"} <= set(stages)
    assert "fine mask of the run" in results["facts"]["masks"]
    assert {path.name for path in report.iterdir()} == {
        *("per_image.csv", "report.html", "results.json", "tables.md")
    }


@pytest.mark.slow
def test_priors_are_scored_without_a_network(root, tmp_path):
    finished = run_module(
        *("evaluate", "--method=priors", "--data_root", root / "data", "--datasets", "ecssd"),
        *("--protocols", "native", "--postprocessings", "none,guided", "--report", tmp_path),
    )
    assert finished.returncode == 0, finished.stderr
    results = results_in(tmp_path)
    assert results["title"] == "priors"
    rows = by_key(results["saliency"])
    for name in ("none", "guided"):
        row = rows["ecssd", "native", name]
        assert (row["images"], row["foreground_rule"]) == (9, "none")
        # Objects that are drawn are easy.
        assert row["iou"] > rows["ecssd", "native", "centre box"]["iou"]


@pytest.mark.slow
def test_saved_masks_are_scored_as_they_are(root):
    report = root / "report"
    finished = run_module(
        *("evaluate", "--predictions", root / "masks", "--data_root", root / "data"),
        *("--datasets", "ecssd,duts_te", "--protocols", "native", "--postprocessings", "none"),
        *("--report", report),
    )
    assert finished.returncode == 0, finished.stderr
    rows = by_key(results_in(report)["saliency"])
    row = rows["duts_te", "native", "none"]
    assert row["foreground_rule"] == "none"
    ious = []
    for path in (root / "data/DUTS/DUTS-TE/DUTS-TE-Mask").iterdir():
        truth = np.asarray(Image.open(path).convert("L")) > 127
        shifted = np.roll(truth, 1, axis=1)
        ious.append(np.sum(truth & shifted) / np.sum(truth | shifted))
    assert row["iou"] == pytest.approx(np.mean(ious))
    assert row["iou"] < 1
    # Of one data set, the folder may hold the masks themselves, and without a report nothing is
    # written.
    finished = run_module(
        *("evaluate", "--predictions", root / "masks/duts_te", "--data_root", root / "data"),
        *("--datasets", "duts_te", "--protocols", "native", "--postprocessings", "none"),
    )
    assert finished.returncode == 0, finished.stderr
    assert f"{row['iou']:.4f}" in finished.stdout
    assert all(path.suffix == ".png" for path in (root / "masks/duts_te").iterdir())


@pytest.mark.slow
def test_baseline_is_scored_without_a_run(root):
    report = root / "tokencut"
    finished = run_module(
        *("evaluate", "--method", "tokencut", "--backbone", "handcrafted", "--resolution", 48),
        *("--data_root", root / "data", "--datasets", "ecssd", "--report", report),
    )
    assert finished.returncode == 0, finished.stderr
    results = results_in(report)
    rows = by_key(results["saliency"])
    assert rows["ecssd", "crop320", "none"]["foreground_rule"] == "none"
    assert rows["ecssd", "crop320", "none"]["iou"] > rows["ecssd", "crop320", "centre box"]["iou"]
    assert results["facts"]["masks"] == "tokencut"


@pytest.mark.slow
def test_boxes_are_scored(root, tmp_path):
    folder = tmp_path / "VOCdevkit/VOC2007"
    for name in ("ImageSets/Main", "Annotations"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/trainval.txt").write_text("000001\n000002\n000003\n")
    for name in ("000001", "000002", "000003"):
        (folder / "Annotations" / f"{name}.xml").write_text(
            "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
            "<xmax>10</xmax><ymax>10</ymax></bndbox></object></annotation>"
        )
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"000001": [0, 0, 10, 10], "000003": [5, 5, 10, 10]}')
    arguments = ["--boxes", boxes, "--data_root", tmp_path, "--report", tmp_path / "report"]
    finished = run_module("evaluate", *arguments, "--datasets", "voc07")
    assert finished.returncode == 0, finished.stderr
    assert "33.3333" in finished.stdout
    assert "boxes for 2 of 3 images" in finished.stderr
    (row,) = results_in(tmp_path / "report")["localization"]
    assert row["corloc"] == pytest.approx(100 / 3)


ANSWERS = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from sempart_jax import evaluate

evaluate.define_flags()
for arguments in json.loads(sys.argv[1]):
    with flagsaver.flagsaver():
        flags.FLAGS(["evaluate", *arguments])
        try:
            evaluate._main()
        except (ValueError, FileNotFoundError) as error:
            print(json.dumps(str(error)))
"""


def answers(*questions):
    """What the program says of command lines that it refuses."""
    finished = subprocess.run(
        [sys.executable, "-c", ANSWERS, json.dumps(questions)],
        cwd=REPOSITORY,
        env=command_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(found) == len(questions), found
    return found


@pytest.mark.slow
def test_errors_are_clear(root):
    """Names that are mistyped are told in test_start_time.py."""
    expected = {
        "--workdir=ROOT/run --datasets=dut_omron": "prepare_data.py dut_omron",
        "--workdir=ROOT/run --datasets=ecssd,ecssd": "ecssd is given twice",
        "--workdir=ROOT/run --backbone=dino_vits8": "was trained on handcrafted, not",
        "--workdir=ROOT/run --boxes=b.json": "give exactly one of --workdir, --method",
        "--boxes=b.json --datasets=voc07,voc12": "--boxes takes exactly one data set",
        "--predictions=ROOT/masks --datasets=ecssd,voc07": "no folder .*masks/voc07",
        "--predictions=ROOT/others --datasets=ecssd": "none of its 9 images has",
        "--method=found_multi --backbone=handcrafted": "handcrafted has no class token",
    }
    root_given = [line.replace("ROOT", str(root)).split() for line in expected]
    found = answers(*([*line, f"--data_root={root}/data"] for line in root_given))
    for message, answer in zip(expected.values(), found, strict=True):
        assert re.search(message, answer)


def test_flags_that_do_not_apply_to_what_is_scored_are_refused_by_name(tmp_path):
    """What does apply gets as far as to the missing file."""
    networks, masks = "--workdir or --method", "--workdir or --method or --predictions"
    of_networks = ("--resolution=7", "--backbone=x", "--weights=y", "--batch_size=2")
    of_masks = (
        *("--protocols=nonsense", "--postprocessings=none", "--foreground_rule=image"),
        *("--extra_metrics", "--noextra_metrics"),
    )
    refused = [
        ("--workdir", "--decoder=d.pt", "--method"),
        ("--predictions", "--decoder=d.pt", "--method"),
        *(("--predictions", flag, networks) for flag in of_networks),
        *(("--boxes", flag, networks) for flag in of_networks),
        *(("--boxes", flag, masks) for flag in of_masks),
    ]
    missing = str(tmp_path / "missing")
    accepted = [
        [f"--workdir={missing}", *of_networks, *of_masks],
        [f"--predictions={missing}", *of_masks],
        [f"--boxes={missing}", "--datasets=voc07", f"--report={tmp_path}", "--data_root=data"],
    ]
    found = answers(*([f"{scored}={missing}", flag] for scored, flag, _ in refused), *accepted)
    for (scored, flag, others), answer in zip(refused, found, strict=False):
        name = flag.split("=")[0].replace("--no", "--")
        assert answer == f"{name} does not apply to {scored}: use it with {others}, or leave it out"
    assert all(missing in answer for answer in found[len(refused) :]), found


def everything(*, chosen=False, **facts):
    """Masks that are foreground everywhere."""

    def ones(images, protocol):
        return [np.ones(framed.image.shape[:2], np.float32) for framed in images]

    return Origin(ones, facts, foreground_chosen=chosen)


def test_each_data_set_is_scored_under_each_protocol(tmp_path, caplog):
    write_data(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    origins = {
        "ecssd": everything(masks="mine", card="none"),
        "duts_te": everything(masks="yours", chosen=True),
    }
    with caplog.at_level(logging.WARNING, logger="absl"):
        evaluation = evaluate(
            origins, tmp_path, title="all", protocols=PROTOCOLS, postprocessings=("none",)
        )
    # The rule is that of the protocol, but for masks whose foreground has been chosen.
    assert [
        (section.dataset, section.protocol, section.foreground_rule, section.inverted.all())
        for section in evaluation.saliency
    ] == [
        ("ecssd", "crop320", "batch", True),
        ("ecssd", "native", "image", True),
        ("duts_te", "crop320", "none", False),
        ("duts_te", "native", "none", False),
    ]
    truths = [
        np.asarray(Image.open(path)) > 127
        for path in (tmp_path / "DUTS/DUTS-TE/DUTS-TE-Mask").iterdir()
    ]
    # Of a mask that is everywhere, IoU is the share of the object.
    share = np.mean([truth.mean() for truth in truths])
    native = evaluation.saliency[3].scores["none"].compute()
    np.testing.assert_allclose(native.iou, share, rtol=1e-6)
    assert "ecssd: found 9 images, the published set has 1000" in caplog.text
    assert evaluation.facts == {
        "masks, ecssd": "mine",
        "card, ecssd": "none",
        "masks, duts_te": "yours",
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_saved_masks_are_scored_as_they_are_unless_a_rule_is_asked_for(tmp_path, protocol):
    """Perfect masks of large objects: any rule inverts them all."""
    images, masks = tmp_path / "ECSSD/images", tmp_path / "ECSSD/ground_truth_mask"
    for folder in (images, masks):
        folder.mkdir(parents=True)
    large = np.zeros((40, 40), np.uint8)
    large[4:, 4:] = 255
    for name in ("a", "b"):
        Image.fromarray(np.stack([large] * 3, axis=-1)).save(images / f"{name}.jpg")
        Image.fromarray(large).save(masks / f"{name}.png")
    for rule, named, iou in ((None, "none", 1.0), ("image", "image", 0.0)):
        (section,) = evaluate(
            {"ecssd": saved_origin(masks)},
            tmp_path,
            title="perfect",
            protocols=[protocol],
            postprocessings=["none"],
            foreground_rule=rule,
        ).saliency
        assert (section.foreground_rule, section.scores["none"].compute().iou) == (named, iou)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ((), "no protocol given: choose among crop320, native"),
        (("whole",), "unknown protocol 'whole'"),
        (("native", "native"), "protocol native is given twice"),
    ],
)
def test_names_are_checked_before_anything_is_opened(tmp_path, names, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate({"ecssd": everything()}, tmp_path, title="all of it", protocols=names)


def test_given_boxes_and_nulls_are_read(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('{"000005": [1, 2.5, 3, 4], "000007": null}')
    assert read_given_boxes(path) == {"000005": [1, 2.5, 3, 4], "000007": None}
    for text, message in (
        ("{", r"boxes\.json is not valid JSON"),
        ("[[1, 2, 3, 4]]", "must hold a JSON object"),
        ('{"a": [1, 2, 3]}', r"the box of a must be .*got \[1, 2, 3\]"),
        ('{"a": {"x": 1}}', "the box of a must be"),
        ('{"a": [1, 2, 3, "4"]}', "the box of a must be"),
        ('{"a": [1, 2, 3, true]}', "the box of a must be"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_given_boxes(path)
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_given_boxes(tmp_path / "none.json")
