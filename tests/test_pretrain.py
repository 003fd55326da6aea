"""Pretraining end to end: in this process with a very small network, and by the command line."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.host.stop_signals import StoppedRunError
from sempart_jax.networks import names
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.model_format import read_description
from sempart_jax.networks.pretrained import BACKBONE_FILE
from sempart_jax.pretrain import pretrain
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.load_network import load_network
from sempart_jax.runs.run_record import ResumeError
from sempart_jax.train import train
from sempart_jax.training.health import UnhealthyRunError
from sempart_jax.training.pretraining import PretrainingTask
from sempart_jax.training.pretraining_config import pretraining_config
from tests.commands import SMALL, run_module, run_train
from tests.process_groups import Group, free_port
from tests.test_train import read_metrics, read_parameters

NAME = "vit_very_small"
FIELDS = {
    "backbone.name": NAME,
    "batch_size": 8,
    "epochs": 0,
    "data.image_size": 32,
    "data.resize_size": 32,
    "crops.global_size": 24,
    "crops.local_size": 16,
    "crops.local_count": 2,
    "head.outputs": 32,
    "head.hidden": 32,
    "head.bottleneck": 16,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.frozen_last_layer_epochs": 0.0,
    "dino.teacher_temperature_epochs": 0.0,
    "log.every_steps": 1,
    "log.panel_images": 0,
    "log.panels_every_steps": 0,
}


@pytest.fixture(scope="module", autouse=True)
def very_small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(names.BACKBONES, NAME, names.Architecture(8, 48, 2, 3))
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 10, size=40, seed=3)
    return folder


@pytest.fixture(scope="module")
def reference_images(tmp_path_factory, reference_data):
    """A hundred photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for path in sorted((reference_data / "DUTS" / "DUTS-TR").rglob("*.jpg"))[:100]:
        (folder / path.name).symlink_to(path)
    return folder


def config_of(scenes, **fields):
    config = pretraining_config()
    given = {name.replace("__", "."): value for name, value in fields.items()}
    config.update_from_flattened_dict(
        FIELDS | {"data.train": str(scenes / "images"), "steps": 6} | given
    )
    return config


@pytest.fixture(scope="module")
def straight(tmp_path_factory, scenes):
    workdir = tmp_path_factory.mktemp("straight")
    masks = {
        "validation__images": str(scenes / "images"),
        "validation__masks": str(scenes / "masks"),
    }
    pretrain(config_of(scenes, log__panel_images=2, **masks), workdir)
    return workdir


@pytest.mark.slow
def test_a_run_leaves_metrics_panels_scores_and_a_backbone(straight):
    rows = read_metrics(straight)
    training = [row for row in rows if "train/total" in row]
    assert [row["step"] for row in training] == list(range(1, 7))
    for row in training:
        total = row["train/kl"] + row["train/teacher_entropy"]
        assert row["train/total"] == pytest.approx(total, rel=1e-5)
        assert 0 < row["train/teacher_entropy"] <= row["train/mean_entropy"] + 1e-5
        assert row["train/mean_entropy"] <= np.log(32) + 1e-5
    assert training[0]["train/learning_rate"] == pytest.approx(5e-4 * 8 / 256)
    assert training[0]["train/teacher_momentum"] == pytest.approx(0.996)
    scored = {row["step"]: row for row in rows if "validation/iou tokencut" in row}
    assert list(scored) == [0, 6]
    assert all(0 < row["validation/iou tokencut"] <= 1 for row in scored.values())
    assert sorted(path.name for path in (straight / "panels").iterdir()) == [
        "crops.png",
        "step_0000000.png",
        "step_0000006.png",
    ]
    assert (straight / "curves.png").is_file()
    # What is kept is the teacher of the checkpoint.
    module, params = load_backbone(NAME, str(straight))
    teacher = read_parameters(straight, 6)["teacher"]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, params, teacher)
    assert params["position_embedding"].shape == (1, 1 + 3 * 3, 48)
    assert module.apply({"params": params}, np.zeros((1, 40, 48, 3), np.float32))["keys"].shape == (
        (1, 5, 6, 48)
    )


@pytest.mark.slow
def test_the_loss_falls_once_the_centre_has_caught_up(reference_images, tmp_path):
    """Fresh outputs are all alike: that they agree is cheap until the centre is subtracted."""
    learning = {
        "steps": 120,
        "batch_size": 16,
        "data__image_size": 64,
        "data__resize_size": 64,
        "crops__global_size": 48,
        "crops__local_size": 24,
        "crops__local_count": 4,
        # With colours it takes more steps than a test has, see docs/pretraining.md.
        "augmentation__jitter_probability": 0.0,
        "augmentation__grayscale_probability": 0.0,
        "augmentation__solarize_probability": 0.0,
        "augmentation__largest_blur": 0.5,
        "head__outputs": 256,
        "head__hidden": 256,
        "head__bottleneck": 64,
        "optimizer__learning_rate": 0.004,  # 0.00025 for 16 images
        "dino__teacher_temperature": 0.04,
        "dino__teacher_momentum": 0.99,
        "log__panel_images": 0,
    }
    config = config_of(tmp_path, **learning)
    config.data.train = str(reference_images)
    pretrain(config, tmp_path / "run")
    rows = read_metrics(tmp_path / "run")
    total, entropy, mean_entropy = (
        np.array([row[f"train/{name}"] for row in rows])
        for name in ("total", "teacher_entropy", "mean_entropy")
    )
    print(np.round(total[19::20], 3), np.round(entropy[19::20] / np.log(256), 3))
    assert np.mean(total[-20:]) < 0.85 * np.mean(total[20:40])
    assert 0.3 < np.mean(entropy[-20:]) / np.log(256) < 0.9
    assert np.mean(mean_entropy[-20:]) > 0.5 * np.log(256)


@pytest.mark.slow
def test_an_interrupted_run_ends_bit_for_bit_like_a_straight_one(
    straight, scenes, tmp_path, monkeypatch
):
    """Told to end after its first step, on eight devices."""
    save, saved = Checkpoints.save, []

    def save_after_backbone(checkpoints, state):
        step = int(state.step)
        assert read_description(tmp_path / BACKBONE_FILE).origin == f"pretrained here, step {step}"
        saved.append(step)
        save(checkpoints, state)

    monkeypatch.setattr(Checkpoints, "save", save_after_backbone)
    take_step = PretrainingTask.take_step

    def take_last_step(task, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        return take_step(task, *args)

    monkeypatch.setattr(PretrainingTask, "take_step", take_last_step)
    with pytest.raises(StoppedRunError, match="saved step 1"):
        pretrain(config_of(scenes), tmp_path)
    monkeypatch.setattr(PretrainingTask, "take_step", take_step)
    pretrain(config_of(scenes), tmp_path)
    assert saved == [1, 6]
    jax.tree.map(
        np.testing.assert_array_equal, read_parameters(tmp_path, 6), read_parameters(straight, 6)
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        *(load_backbone(NAME, str(workdir))[1] for workdir in (tmp_path, straight)),
    )
    with pytest.raises(ResumeError, match="steps: 6 -> 7"):
        pretrain(config_of(scenes, steps=7), tmp_path)


@pytest.mark.slow
def test_a_collapsed_teacher_stops_the_run_with_what_to_do(scenes, tmp_path):
    # So hot a teacher is uniform, and a student that is as hot agrees with it.
    hot = {"dino__teacher_temperature": 1e6, "dino__student_temperature": 1e6}
    with pytest.raises(UnhealthyRunError, match=r"step 2: the teacher has collapsed to the uni"):
        pretrain(config_of(scenes, health__collapse_steps=2, **hot), tmp_path)
    # If that is a false alarm, nothing is lost.
    assert json.loads((tmp_path / "run.json").read_text())["kept step"] == 2
    pretrain(config_of(scenes, health__collapse_steps=10, **hot), tmp_path)
    logged = [row["step"] for row in read_metrics(tmp_path) if "train/total" in row]
    assert logged == [1, 3, 4, 5, 6]  # not the step that has stopped it


def test_epochs_that_are_longer_than_the_run_are_named(scenes, tmp_path):
    with pytest.raises(
        ValueError, match=r"config\.optimizer\.warmup_epochs=10 epochs are 12 steps"
    ):
        pretrain(config_of(scenes, optimizer__warmup_epochs=10.0), tmp_path)
    assert not list(tmp_path.iterdir())


def test_micro_batches_that_are_not_equal_are_refused(scenes, tmp_path):
    with pytest.raises(
        ValueError, match=r"config\.accumulation must divide the \d+ images of each"
    ):
        pretrain(config_of(scenes, accumulation=3), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_runs_of_both_tasks_are_told_apart(straight, scenes, tmp_path):
    with pytest.raises(ValueError, match=r"a run of pretraining.*--config\.backbone\.weights"):
        load_network(straight)
    for name in ("config.json", "run.json"):
        shutil.copy(straight / name, tmp_path)
    config = default_config()
    config.update_from_flattened_dict(SMALL | {"data.train": str(scenes / "images"), "steps": 1})
    config.batch_size = 8
    with pytest.raises(ValueError, match="a run of pretraining, but a run of segmentation"):
        train(config, tmp_path)


@pytest.mark.slow
def test_the_command_line_from_a_backbone_to_masks(scenes, tmp_path):
    fields = FIELDS | {
        "backbone.name": "vit_tiny16",
        "crops.global_size": 32,
        "data.train": scenes / "images",
        "steps": 2,
        "log.panel_images": 0,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    workdir = tmp_path / "backbone"
    command = ["--config", "configs/dino_pretrain.py", "--workdir", workdir, *flags]
    finished = run_module("pretrain", *command, small_vits=True)
    assert finished.returncode == 0, finished.stderr
    assert "10 images, DINO of vit_tiny16, steps 0 to 2" in finished.stdout + finished.stderr
    assert json.loads((workdir / "run.json").read_text())["kept step"] == 2

    finished = run_train(
        tmp_path / "masks",
        scenes / "images",
        steps=1,
        small_vits=True,
        backbone__name="vit_tiny16",
        backbone__weights=workdir,
    )
    assert finished.returncode == 0, finished.stderr
    image = scenes / "images" / "scene_0000.png"
    out = ["--outputs", "mask", "--out", tmp_path / "out"]
    run = ["--workdir", tmp_path / "masks"]
    finished = run_module("segment", image, *run, *out, small_vits=True)
    assert finished.returncode == 0, finished.stderr

    unknown = run_module("pretrain", *command, "--config.optimizer.warmup_epoch=1")
    assert unknown.returncode == 1
    assert re.search(r"unknown field config\.optimizer\.warmup_epoch: did you", unknown.stderr)
    other = run_module("pretrain", "--config", "configs/tricks.py", "--workdir", tmp_path / "x")
    assert other.returncode == 1
    assert "sempart_jax.pretrain needs 'pretraining'" in other.stderr


@pytest.mark.slow
def test_two_processes_learn_what_one_does(scenes, tmp_path):
    fields = FIELDS | {
        "backbone.name": "vit_tiny8",
        "data.train": scenes / "images",
        "steps": 2,
        "log.panel_images": 0,
    }

    def rows(workdir, launches, devices):
        program = ["tests/small_vit.py", "-m", "sempart_jax.pretrain"]
        program += ["--config", "configs/dino_pretrain.py", "--workdir", workdir]
        commands = [
            [*program, *(f"--config.{name}={value}" for name, value in (fields | launch).items())]
            for launch in launches
        ]
        with Group(commands, devices=devices) as group:
            assert group.wait() == [0] * len(launches), group.everything()
        return read_metrics(workdir)

    together = {
        "distributed": True,
        "coordinator_address": f"127.0.0.1:{free_port()}",
        "num_processes": 2,
    }
    of_two = rows(tmp_path / "two", [together | {"process_id": index} for index in range(2)], 2)
    of_one = rows(tmp_path / "one", [{}], 4)
    assert [row["step"] for row in of_two] == [1, 2]
    for ours, expected in zip(of_two, of_one, strict=True):
        for name in set(expected) - {"train/images_per_second"}:
            assert ours[name] == pytest.approx(expected[name], rel=1e-4), name


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch to be loaded")
@pytest.mark.parametrize("name", ["pretrain", "train"])
def test_training_does_not_load_pytorch(name):
    code = f"import sys, sempart_jax.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_needs_none_of_what_draws_downloads_and_prepares():
    # A machine with a GPU may have little installed.
    absent = ("matplotlib", "huggingface_hub", "tensorflow_datasets", "tensorflow", "gradio")
    lines = f"import sys; sys.modules |= dict.fromkeys({absent})"
    code = f"{lines}; import sempart_jax.pretrain, sempart_jax.train"
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
