"""From rows of the tables to commands, and the whole chain of SelfMask and of FOUND."""

import json
import shutil

import pytest
from PIL import Image

from sempart_jax import recorded_commands
from sempart_jax.report.reproduction import METHODS, Run
from sempart_jax.reproduction.rows import Reproduction
from tests.commands import QUICKLY_COMPILED, REPOSITORY
from tests.reproduction.fake_processes import after
from tests.reproduction.layouts import lay_out, write_voc07
from tests.small_vit import run_command

EVALUATION = ["--protocols", "crop320,native", "--postprocessings"]


@pytest.fixture
def reproduce(tmp_path, data_root):
    def make(**options):
        return Reproduction(data_root=data_root, out=tmp_path / "out", **options)

    return make


def give_masks(root, method, dataset):
    folder = root / method / dataset
    folder.mkdir(parents=True)
    Image.new("L", (8, 8)).save(folder / "scene_0000.png")


def flags_of(command):
    """A command without what is the same of all evaluations."""
    module, *words = command
    assert module == "evaluate"
    start = words.index("--data_root")
    return words[:start] + words[start + 4 : -2]


def test_a_run_is_trained_and_scored(reproduce, processes, tmp_path):
    reproduction = reproduce()
    reproduction.score(Run("crop", "dino_vits8"), ["duts_te", "ecssd"])
    train, evaluate = processes.take()
    assert train[0] == "train"
    assert flags_of(evaluate) == [
        *("--workdir", str(tmp_path / "out" / "crop"), "--protocols", "crop320"),
        *("--postprocessings", "none,guided,bilateral"),
    ]
    assert after(evaluate, "--datasets") == "duts_te,ecssd"
    assert list(reproduction.results) == ["crop"]


@pytest.mark.parametrize(
    ("method", "backbone", "postprocessings"),
    [
        ("lost", "dino_vits16", "none"),
        ("deep_spectral", "dino_vits8", "none"),
        ("tokencut", "dino_vits16", "none,guided,bilateral_16_16_8"),
    ],
)
def test_methods_without_training(reproduce, processes, method, backbone, postprocessings):
    reproduction = reproduce(train=False)
    reproduction.score(method, ["ecssd"])
    (evaluate,) = processes.take()
    source = ["--method", method, "--backbone", backbone]
    assert flags_of(evaluate) == [*source, *EVALUATION, postprocessings]
    assert list(reproduction.results) == [f"methods/{method}"]
    reproduce(
        weights={"dino_vits8": "dino_vits8.pth", "dino_vits16": "dino_vits16.pth"},
        method_args=["--resolution", "32"],
    ).score(method, ["ecssd"])
    (evaluate,) = processes.take()
    source += ["--weights", f"{backbone}.pth", "--resolution", "32"]
    assert flags_of(evaluate) == [*source, *EVALUATION, postprocessings]


def test_found_is_trained_unless_its_decoder_is_given(reproduce, processes, tmp_path):
    reproduction = reproduce()
    reproduction.score("found", ["ecssd"])
    train, evaluate = processes.take()
    run = tmp_path / "out" / "found"
    assert train[:5] == ["train", "--config", "configs/found.py", "--workdir", str(run)]
    source = ["--method", "found_single", "--backbone", "dino_vits8", "--decoder"]
    assert flags_of(evaluate) == [*source, str(run), *EVALUATION, "none"]
    assert list(reproduction.results) == ["methods/found"]

    # Another training is scored again.
    reproduce(train_args=["--config.seed=1"]).score("found", ["ecssd"])
    assert [command[0] for command in processes.take()] == ["train", "evaluate"]

    decoder = tmp_path / "decoder.pt"
    decoder.write_bytes(b"1")
    reproduce(found_decoder=decoder, train=False).score("found", ["ecssd"])
    (evaluate,) = processes.take()
    assert flags_of(evaluate) == [*source, str(decoder), *EVALUATION, "none"]
    reproduce(found_decoder=decoder).score("found", ["ecssd"])
    assert processes.take() == []
    decoder.write_bytes(b"2")
    reproduce(found_decoder=decoder).score("found", ["ecssd"])
    assert len(processes.take()) == 1


def test_found_is_not_scored_without_its_training(reproduce, processes):
    reproduction = reproduce(train=False)
    reproduction.score("found", ["ecssd"])
    assert processes.take() == []
    assert reproduction.commands.left_out == [
        "run found: it is not trained so, and --notrain was given"
    ]
    processes.failing = {"configs/found.py"}
    reproduce().score("found", ["ecssd"])
    assert [command[0] for command in processes.take()] == ["train"]


def test_a_student_is_scored_as_it_is(reproduce, processes, tmp_path):
    reproduction = reproduce()
    reproduction.score("selfmask_tricks", ["ecssd"])
    *before, evaluate = processes.take()
    assert [command[0] for command in before] == ["train", "segment", "train"]
    assert flags_of(evaluate) == [
        *("--workdir", str(tmp_path / "out" / "selfmask_tricks"), *EVALUATION, "none"),
        *("--foreground_rule", "none"),
    ]
    assert list(reproduction.results) == ["selfmask_tricks"]
    processes.failing = {"configs/tricks.py"}
    failed = reproduce(train_args=["--config.seed=1"])
    failed.score("selfmask_tricks", ["ecssd"])
    assert [command[0] for command in processes.take()] == ["train"]
    assert len(failed.commands.failures) == 1


def test_a_run_and_its_student_are_trained_once(reproduce, processes):
    reproduction = reproduce()
    reproduction.score(Run("tricks", "dino_vits8"), ["ecssd"])
    reproduction.score("selfmask_tricks", ["ecssd"])
    assert [command[0] for command in processes.take()] == [
        *("train", "evaluate", "segment", "train", "evaluate")
    ]


def scored_sets(reproduction):
    return {
        origin: [row["dataset"] for row in found["saliency"]]
        for origin, found in reproduction.results.items()
    }


@pytest.mark.parametrize("method", ["tokencut", "found", "selfmask_baseline", "move"])
def test_given_masks_win_for_their_data_sets(reproduce, processes, tmp_path, method):
    give_masks(tmp_path / "masks", method, "ecssd")
    reproduction = reproduce(predictions=tmp_path / "masks")
    reproduction.score(method, ["ecssd"])
    (evaluate,) = processes.take()
    assert flags_of(evaluate)[:2] == ["--predictions", str(tmp_path / "masks" / method)]
    assert reproduction.commands.left_out == []

    reproduction.score(method, ["duts_te", "ecssd"])
    if method == "move":
        assert processes.take() == []
        assert reproduction.commands.left_out == [
            "move: no saved masks (PREDICTIONS/move/DATASET/*.png) or boxes "
            "(BOXES/move/DATASET.json) are given of duts_te"
        ]
        return
    *_, evaluate = processes.take()
    assert after(evaluate, "--datasets") == "duts_te"
    computed = f"methods/{method}" if method in METHODS else method
    assert list(reproduction.results) == [f"masks/{method}", computed]


def test_masks_that_are_given_later_take_the_place_of_computed_ones(reproduce, processes, tmp_path):
    reproduce().score("lost", ["duts_te", "ecssd"])
    give_masks(tmp_path / "masks", "lost", "ecssd")
    reproduction = reproduce(predictions=tmp_path / "masks")
    reproduction.score("lost", ["duts_te", "ecssd"])
    assert scored_sets(reproduction) == {"masks/lost": ["ecssd"], "methods/lost": ["duts_te"]}


def test_masks_that_are_no_longer_given_leave_no_scores(reproduce, processes, tmp_path):
    for dataset in ("ecssd", "duts_te"):
        give_masks(tmp_path / "masks", "lost", dataset)
    reproduction = reproduce(predictions=tmp_path / "masks")
    reproduction.score("lost", ["duts_te", "ecssd"])
    assert scored_sets(reproduction) == {"masks/lost": ["duts_te", "ecssd"]}
    shutil.rmtree(tmp_path / "masks" / "lost" / "duts_te")
    reproduction.score("lost", ["duts_te", "ecssd"])
    assert scored_sets(reproduction) == {"masks/lost": ["ecssd"], "methods/lost": ["duts_te"]}


def test_given_boxes_win_for_theirs(reproduce, processes, tmp_path, data_root):
    boxes = write_voc07(data_root, sorted((data_root / "ECSSD" / "images").iterdir()))
    file = tmp_path / "boxes" / "lost" / "voc07.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(boxes))
    reproduction = reproduce(boxes=tmp_path / "boxes")
    reproduction.score("lost", ["ecssd", "voc07"])
    of_boxes, of_masks = processes.take()
    assert flags_of(of_boxes) == ["--boxes", str(file)]
    assert after(of_boxes, "--datasets") == "voc07"
    assert after(of_masks, "--method") == "lost"
    assert after(of_masks, "--datasets") == "ecssd"


SMALL = {
    "data.image_size": 32,
    "data.resize_size": 36,
    "batch_size": 2,
    "steps": 1,
    "guided_filter.radius": 2,
    "augmentation.enabled": False,
    "selfmask.decoder_layers": 1,
    "selfmask.queries": 2,
    "log.panels_every_steps": 0,
    "log.panel_images": 0,
}


@pytest.fixture
def really_reproduce(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", QUICKLY_COMPILED)
    monkeypatch.setattr(recorded_commands, "run_command", run_command)
    monkeypatch.chdir(REPOSITORY)
    data_root = lay_out(tmp_path / "data")

    def make():
        return Reproduction(
            data_root=data_root,
            out=tmp_path / "out",
            weights={"dino_vits8": "random"},
            train_args=[f"--config.{name}={value}" for name, value in SMALL.items()],
            method_args=["--resolution", "32"],
        )

    return make


def scores_of(reproduction, origin):
    rows = reproduction.results[origin]["saliency"]
    return {
        (row["protocol"], row["foreground_rule"]): row
        for row in rows
        if row["postprocessing"] == "none"
    }


@pytest.mark.slow
def test_found_end_to_end(really_reproduce):
    reproduction = really_reproduce()
    reproduction.score("found", ["ecssd"])
    assert reproduction.commands.failures == reproduction.commands.left_out == []
    scores = scores_of(reproduction, "methods/found")
    assert set(scores) == {("crop320", "none"), ("native", "none")}
    assert all(0 <= row["iou"] <= 1 and row["images"] == 2 for row in scores.values())


@pytest.mark.slow
def test_selfmask_end_to_end(really_reproduce, tmp_path, capsys):
    reproduction = really_reproduce()
    reproduction.score("selfmask_baseline", ["ecssd"])
    assert reproduction.commands.failures == reproduction.commands.left_out == []
    scores = scores_of(reproduction, "selfmask_baseline")
    assert set(scores) == {("crop320", "none"), ("native", "none")}
    (masks,) = (tmp_path / "out" / "pseudo_masks").iterdir()
    # Those of the training images alone.
    assert len(list(masks.rglob("*.png"))) == 2
    assert masks.name in (tmp_path / "out" / "selfmask_baseline" / "config.json").read_text()

    capsys.readouterr()
    again = really_reproduce()
    again.score("selfmask_baseline", ["ecssd"])
    assert again.results == reproduction.results
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert all(line.startswith("# finished before: ") for line in printed)
