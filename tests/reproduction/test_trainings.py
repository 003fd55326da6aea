"""Trainings, and the masks that SelfMask learns from."""

import json
import shlex
import shutil

import pytest

from sempart_jax.data.pseudo_masks import open_pseudo_masks
from sempart_jax.report.reproduction import STUDENTS, Run
from sempart_jax.reproduction.data_sets import DataSets
from sempart_jax.reproduction.module_commands import ModuleCommands
from sempart_jax.reproduction.trainings import (
    PSEUDO_MASKS,
    SEGMENTED,
    TRAINED,
    Trainings,
    training_images,
)
from sempart_jax.segmentation.inputs import find_inputs, name_outputs
from tests.reproduction.fake_processes import after

BASELINE, CROP = Run("baseline", "dino_vits8"), Run("crop", "dino_vits8")
IBOT = Run("tricks", "ibot_vits16")
STUDENT = STUDENTS["selfmask_baseline"]
WANTED = ["ecssd"]


@pytest.fixture
def trainings(tmp_path, data_root, processes):
    def make(*train_args, weights=None, train=True, dry_run=False, out="out"):
        return Trainings(
            ModuleCommands(dry_run=dry_run),
            DataSets(data_root),
            out=tmp_path / out,
            weights=weights or {},
            train_args=train_args,
            train=train,
        )

    return make


def left_out(trainings):
    return trainings._commands.left_out


def names(commands):
    """Module and what it writes to, of each command."""
    return [
        (command[0], after(command, "--out" if command[0] == "segment" else "--workdir"))
        for command in commands
    ]


def test_the_command_of_a_run(trainings, processes, tmp_path, data_root):
    weights = {"ibot_vits16": "ibot.pth", "dino_vits8": "dino.pth"}
    folder = tmp_path / "out" / "tricks_ibot_vits16"
    expected = ["--config", "configs/ibot_vits16.py", "--workdir", str(folder)]
    expected += [f"--config.data.train={data_root / 'DUTS'}"]
    expected += ["--config.backbone.weights=ibot.pth", "--config.steps=1"]
    assert trainings("--config.steps=1", weights=weights).run(IBOT, WANTED) == shlex.join(expected)
    assert processes.take() == [["train", *expected]]
    assert json.loads((folder / TRAINED).read_text())["finished"] is True


def test_the_command_of_found(trainings, processes, tmp_path, data_root):
    of = trainings("--config.steps=1", weights={"dino_vits8": "dino.pth"}).found("found", WANTED)
    (command,) = processes.take()
    assert of == shlex.join(command[1:])
    assert command == [
        *("train", "--config", "configs/found.py", "--workdir", str(tmp_path / "out" / "found")),
        *(f"--config.data.train={data_root / 'DUTS'}", "--config.backbone.weights=dino.pth"),
        "--config.steps=1",
    ]


def test_a_run_is_trained_once_and_again_with_other_arguments(trainings, processes):
    once = trainings()
    assert once.run(BASELINE, WANTED) == once.run(BASELINE, WANTED)
    assert len(processes.take()) == 1
    assert trainings().run(BASELINE, WANTED) == once.run(BASELINE, WANTED)
    assert processes.take() == []
    trainings("--config.seed=1").run(BASELINE, WANTED)
    assert len(processes.take()) == 1


def test_a_training_that_was_told_to_end_is_gone_on_with(trainings, processes):
    processes.ended = True
    given = trainings()
    assert given.run(BASELINE, WANTED) is None
    processes.ended = False
    assert trainings().run(BASELINE, WANTED)
    assert len(processes.take()) == 2
    assert trainings().run(BASELINE, WANTED)
    assert processes.take() == []


@pytest.mark.parametrize(
    ("run", "wanted", "options", "reason"),
    [
        (CROP, ["dut_omron"], {}, "run crop: none of dut_omron is there"),
        (CROP, WANTED, {"train": False}, "run crop: it is not trained so, and --notrain was given"),
        (
            IBOT,
            WANTED,
            {},
            "run tricks_ibot_vits16: no download has its weights: give --weights ibot_vits16=PATH",
        ),
    ],
)
def test_why_a_run_is_not_trained(trainings, processes, run, wanted, options, reason):
    given = trainings(**options)
    assert given.run(run, wanted) is None
    assert given.run(run, wanted) is None
    assert left_out(given) == [reason]
    assert processes.take() == []


def test_what_is_trained_already_needs_no_training(trainings, processes):
    of = trainings().run(BASELINE, WANTED)
    processes.take()
    given = trainings(train=False)
    assert given.run(BASELINE, WANTED) == of
    assert left_out(given) == processes.take() == []


def test_arguments_may_name_the_weights(trainings, processes):
    assert trainings("--config.backbone.name=handcrafted").run(IBOT, WANTED)
    assert len(processes.take()) == 1


def test_a_student_comes_after_its_teacher_and_its_masks(trainings, processes, tmp_path, data_root):
    out = tmp_path / "out"
    of = trainings("--config.steps=1").student(
        "selfmask_tricks", STUDENTS["selfmask_tricks"], WANTED
    )
    train, segment, student = processes.take()
    assert train[:5] == ["train", "--config", "configs/tricks.py", "--workdir", str(out / "tricks")]
    (masks,) = (out / PSEUDO_MASKS).iterdir()
    assert masks.name.startswith("tricks-")
    assert segment == [
        *("segment", str(data_root / "DUTS"), "--workdir", str(out / "tricks")),
        *("--out", str(masks), "--outputs", "mask", "--refine", "guided"),
    ]
    assert student == [
        *("train", "--config", "configs/selfmask.py", f"--config.pseudo_masks={masks}"),
        *("--workdir", str(out / "selfmask_tricks")),
        *(f"--config.data.train={data_root / 'DUTS'}", "--config.steps=1"),
    ]
    assert of == shlex.join(student[1:])
    record = json.loads((out / "selfmask_tricks" / TRAINED).read_text())
    assert set(record["contents"]) == {PSEUDO_MASKS}


def test_masks_of_a_teacher_are_as_in_its_own_row(trainings, processes):
    trainings().student("selfmask_baseline", STUDENT, WANTED)
    _, segment, _ = processes.take()
    assert after(segment, "--refine") == "none"


def test_a_finished_student_is_left_alone_even_without_its_masks(trainings, processes, tmp_path):
    of = trainings().student("selfmask_baseline", STUDENT, WANTED)
    processes.take()
    assert trainings().student("selfmask_baseline", STUDENT, WANTED) == of
    shutil.rmtree(tmp_path / "out" / PSEUDO_MASKS)
    assert trainings(train=False).student("selfmask_baseline", STUDENT, WANTED) == of
    assert processes.take() == []


def test_a_student_without_a_teacher_is_left_out(trainings, processes, tmp_path):
    given = trainings(train=False)
    assert given.student("selfmask_baseline", STUDENT, WANTED) is None
    assert left_out(given) == [
        "run baseline: it is not trained so, and --notrain was given",
        "run selfmask_baseline: the run baseline, whose masks it learns from, is not trained",
    ]
    processes.failing = {"configs/baseline.py"}
    given = trainings()
    assert given.student("selfmask_baseline", STUDENT, WANTED) is None
    assert names(processes.take()) == [("train", str(tmp_path / "out" / "baseline"))]
    assert left_out(given) == [
        "run selfmask_baseline: the run baseline, whose masks it learns from, is not trained"
    ]


def test_without_training_no_masks_are_made(trainings, processes):
    trainings().run(BASELINE, WANTED)
    processes.take()
    given = trainings(train=False)
    assert given.student("selfmask_baseline", STUDENT, WANTED) is None
    assert processes.take() == []
    assert left_out(given) == [
        "run selfmask_baseline: it is not trained so, and --notrain was given"
    ]


def test_unfinished_masks_are_gone_on_with(trainings, processes, tmp_path):
    processes.failing = {"segment"}
    given = trainings()
    assert given.student("selfmask_baseline", STUDENT, WANTED) is None
    assert left_out(given) == ["run selfmask_baseline: the masks of baseline are not made"]
    _, segment = processes.take()
    (masks,) = (tmp_path / "out" / PSEUDO_MASKS).iterdir()
    assert json.loads((masks / SEGMENTED).read_text())["finished"] is False
    processes.failing = set()
    assert trainings().student("selfmask_baseline", STUDENT, WANTED)
    again, student = processes.take()
    assert again == segment
    assert f"--config.pseudo_masks={masks}" in student


def test_a_student_that_was_interrupted_goes_on_with_the_same_masks(trainings, processes):
    processes.failing = {"configs/selfmask.py"}
    assert trainings().student("selfmask_baseline", STUDENT, WANTED) is None
    *_, student = processes.take()
    processes.failing = set()
    assert trainings().student("selfmask_baseline", STUDENT, WANTED)
    assert processes.take() == [student]


def test_another_run_gives_other_masks_and_its_student_has_to_be_removed(
    trainings, processes, tmp_path
):
    trainings().student("selfmask_baseline", STUDENT, WANTED)
    processes.take()
    given = trainings("--config.seed=1")
    assert given.student("selfmask_baseline", STUDENT, WANTED) is None
    folder = tmp_path / "out" / "selfmask_baseline"
    assert [name for name, _ in names(processes.take())] == ["train", "segment"]
    assert len(list((tmp_path / "out" / PSEUDO_MASKS).iterdir())) == 2
    assert left_out(given) == [
        "run selfmask_baseline: it has learned from other masks than baseline gives now: remove "
        f"{folder} to train it anew"
    ]
    shutil.rmtree(folder)
    assert trainings("--config.seed=1").student("selfmask_baseline", STUDENT, WANTED)
    assert names(processes.take()) == [("train", str(folder))]


def test_a_student_that_has_not_begun_may_take_other_masks(trainings, processes, tmp_path):
    trainings().student("selfmask_baseline", STUDENT, WANTED)
    (tmp_path / "out" / "selfmask_baseline" / "config.json").unlink()
    processes.take()
    assert trainings("--config.seed=1").student("selfmask_baseline", STUDENT, WANTED)
    assert [name for name, _ in names(processes.take())] == ["train", "segment", "train"]


def test_a_moved_run_keeps_its_student(trainings, processes, tmp_path):
    trainings().student("selfmask_baseline", STUDENT, WANTED)
    (tmp_path / "out").rename(tmp_path / "moved")
    processes.take()
    assert trainings(out="moved").student("selfmask_baseline", STUDENT, WANTED)
    assert [name for name, _ in names(processes.take())] == ["train", "segment", "train"]


def test_a_dry_run_shows_the_whole_chain(trainings, processes, capsys, tmp_path):
    given = trainings(dry_run=True)
    assert given.student("selfmask_baseline", STUDENT, WANTED)
    shown = [line for line in capsys.readouterr().out.splitlines() if " -m sempart_jax." in line]
    assert [line.split("sempart_jax.")[1].split()[0] for line in shown] == [
        *("train", "segment", "train")
    ]
    assert processes.take() == []
    assert not (tmp_path / "out").exists()


def test_the_images_of_a_training_are_those_that_it_names_last():
    flag = "--config.data.train"
    line = ["--config", "configs/x.py", "--workdir", "out", f"{flag}=DUTS", "--config.steps=1"]
    assert training_images(line) == "DUTS"
    assert training_images([*line, "--config", "configs/y.py"]) == "DUTS"
    assert training_images([*line, f"{flag}=other images"]) == "other images"
    assert training_images([*line, flag, "other", "--config.data.train_more=x"]) == "other"


def test_masks_of_the_training_images_are_made_where_arguments_name_others(
    trainings, processes, data_root
):
    other = data_root / "ECSSD" / "images"
    trainings(f"--config.data.train={other}").student("selfmask_baseline", STUDENT, WANTED)
    _, segment, _ = processes.take()
    assert segment[1] == str(other)


def test_segment_and_training_mean_the_same_images_of_duts(data_root, tmp_path):
    """The folder of DUTS is given to both; its test images and true masks are of neither."""
    named = name_outputs(find_inputs([str(data_root / "DUTS")]))
    for file in named:
        path = tmp_path / "masks" / f"{file.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    paired = open_pseudo_masks(data_root / "DUTS", tmp_path / "masks")
    assert list(paired.names) == [
        f"DUTS-TR/DUTS-TR-Image/scene_000{index}.png" for index in range(2)
    ]
