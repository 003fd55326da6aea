"""Training of the networks beside Sempart end to end through the command line."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.runs.load_network import load_network
from tests.commands import run_module, run_train
from tests.test_train import read_metrics, read_parameters


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Ten scenes, laid out as ECSSD is, and pseudo-masks of all but one of them."""
    root = tmp_path_factory.mktemp("data")
    write_scenes(root / "ECSSD", 10, size=40, seed=3)
    (root / "ECSSD" / "masks").rename(root / "ECSSD" / "ground_truth_mask")
    images, masks = root / "ECSSD" / "images", root / "pseudo_masks"
    arguments = ["--method", "tokencut", "--backbone", "handcrafted", "--resolution", "40"]
    finished = run_module("segment", images, *arguments, "--outputs", "mask", "--out", masks)
    assert finished.returncode == 0, finished.stderr
    (masks / "masks" / "scene_0004.png").unlink()
    return root, masks


def train_selfmask(workdir, scenes, **fields):
    root, masks = scenes
    fields = {
        "backbone.name": "vit_tiny8",
        "backbone.weights": "random",
        "batch_size": 8,
        "pseudo_masks": masks,
        "selfmask.queries": 5,
        "selfmask.decoder_layers": 1,
        "optimizer.learning_rate": 1e-4,
        "optimizer.decay_steps": 1000,
        "augmentation.enabled": False,
        "checkpoint.every_steps": 10,
        **fields,
    }
    return run_train(
        workdir, root / "ECSSD" / "images", config="selfmask", small_vits=True, **fields
    )


@pytest.fixture(scope="module")
def selfmask_run(tmp_path_factory, scenes):
    workdir = tmp_path_factory.mktemp("selfmask")
    finished = train_selfmask(workdir, scenes, steps=40, log__panel_images=2)
    assert finished.returncode == 0, finished.stderr
    return workdir, finished


@pytest.mark.slow
def test_selfmask_learns_from_pseudo_masks(selfmask_run):
    workdir, finished = selfmask_run
    output = finished.stdout + finished.stderr
    assert re.search(r"9 images, vit_tiny8, steps 0 to 40", output)
    assert re.search(r"1 of (the )?10 images.*scene_0004", output), output
    assert len(list((workdir / "panels").iterdir())) == 2
    totals = [row["train/total"] for row in read_metrics(workdir)]
    assert np.mean(totals[-10:]) < 0.95 * np.mean(totals[:5])
    for row in read_metrics(workdir):
        total = row["train/dice"] + row["train/ranking"]
        assert row["train/total"] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_an_interrupted_selfmask_run_ends_like_a_straight_one(selfmask_run, scenes, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(selfmask_run[0], workdir)
    shutil.rmtree(workdir / "checkpoints/40")
    finished = train_selfmask(workdir, scenes, steps=40)
    assert "steps 30 to 40" in finished.stdout + finished.stderr
    jax.tree.map(
        np.testing.assert_array_equal,
        read_parameters(workdir, 40),
        read_parameters(selfmask_run[0], 40),
    )


@pytest.mark.slow
def test_a_selfmask_run_is_scored_and_used_like_any_other(selfmask_run, scenes, tmp_path):
    workdir, _ = selfmask_run
    arguments = ["--data_root", scenes[0], "--datasets", "ecssd", "--protocols", "native"]
    finished = run_module(
        "evaluate", "--workdir", workdir, "--weights", "/no/file", *arguments,
        "--report", tmp_path / "report", small_vits=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [row["images"] for row in results["saliency"]] == [10, 10, 10]
    assert f"run {workdir}, step 40" in results["facts"]["masks"]
    images = scenes[0] / "ECSSD" / "images" / "scene_0001.png"
    arguments = ["--workdir", workdir, "--out", tmp_path / "out"]
    finished = run_module("segment", images, *arguments, small_vits=True)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "out" / "masks" / "scene_0001.png").exists()


@pytest.mark.slow
def test_a_folder_without_pseudo_masks_is_an_error(scenes, tmp_path):
    (tmp_path / "empty").mkdir()
    finished = train_selfmask(tmp_path / "run", scenes, steps=1, pseudo_masks=tmp_path / "empty")
    assert finished.returncode == 1
    assert re.search("error: .*empty", finished.stderr), finished.stderr
    assert "Traceback" not in finished.stderr


def train_found(workdir, scenes, **fields):
    fields = {
        "backbone.name": "vit_tiny16",
        "backbone.weights": "random",
        "batch_size": 5,
        "found.background_steps": 6,
        **fields,
    }
    return run_train(
        workdir, scenes[0] / "ECSSD" / "images", config="found", small_vits=True, **fields
    )


@pytest.mark.slow
def test_found_teaches_its_decoder_and_is_scored_by_name(scenes, tmp_path):
    fields = {"checkpoint.every_steps": 5, "log.panel_images": 2, "steps": 12}
    finished = train_found(tmp_path / "straight", scenes, **fields)
    assert finished.returncode == 0, finished.stderr
    shutil.copytree(tmp_path / "straight", tmp_path / "interrupted")
    for step in ("10", "12"):
        shutil.rmtree(tmp_path / "interrupted/checkpoints" / step)
    finished = train_found(tmp_path / "interrupted", scenes, **fields)
    assert "steps 5 to 12" in finished.stdout + finished.stderr
    straight, resumed = (
        read_parameters(tmp_path / name, 12) for name in ("straight", "interrupted")
    )
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)
    assert len(list((tmp_path / "straight" / "panels").iterdir())) == 2
    rows = read_metrics(tmp_path / "straight")
    assert [row["train/background"] > 0 for row in rows] == [True] * 6 + [False] * 6
    assert [row["train/self"] > 0 for row in rows] == [False] * 6 + [True] * 6
    assert rows[5]["train/background"] < rows[0]["train/background"]
    shutil.rmtree(tmp_path / "interrupted")
    finished = run_module(
        "evaluate", "--method", "found_single", "--decoder", tmp_path / "straight",
        "--backbone", "vit_tiny16", "--weights", "random", "--resolution", "32",
        "--data_root", scenes[0], "--datasets", "ecssd", "--report", tmp_path / "report",
        small_vits=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "report" / "results.json").exists()


def train_unet(workdir, folder, **fields):
    fields = {
        "backbone.name": "none",
        "batch_size": 8,
        "pseudo_masks": folder / "masks",
        "unet.channels": 4,
        "multiscale.enabled": True,
        "optimizer.learning_rate": 2e-2,
        "optimizer.average_decay": 0.9,
        "augmentation.jitter_probability": 0.0,
        "augmentation.grayscale_probability": 0.0,
        "augmentation.smallest_scale": 1.0,
        "checkpoint.every_steps": 60,
        "validation.images": folder / "images",
        "validation.masks": folder / "masks",
        "validation.foreground_rule": "none",
        **fields,
    }
    finished = run_train(workdir, folder / "images", config="builtin", **fields)
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.mark.slow
def test_a_unet_learns_from_masks_and_continues_with_its_average(tmp_path):
    scenes, straight, resumed = tmp_path / "scenes", tmp_path / "straight", tmp_path / "resumed"
    write_scenes(scenes, 16, size=40, seed=3)
    finished = train_unet(straight, scenes, steps=80, log__panel_images=2)
    assert "16 images, unet, steps 0 to 80" in finished.stdout + finished.stderr
    assert len(list((straight / "panels").iterdir())) == 2
    rows = read_metrics(straight)
    first, last = (row["validation/iou fine"] for row in rows if "validation/iou fine" in row)
    assert first < 0.3
    assert last > 0.6, "well above the box in the middle, at 0.44"
    for row in rows:
        if "train/total" in row:
            terms = row["train/cross_entropy"] + row["train/iou"]
            total = terms + 0.01 * row["train/equivariance"]
            assert row["train/total"] == pytest.approx(total, rel=1e-5)
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoints" / "80")
    finished = train_unet(resumed, scenes, steps=80)
    assert "steps 60 to 80" in finished.stdout + finished.stderr
    ours, expected = (read_parameters(run, 80) for run in (resumed, straight))
    assert expected.keys() == {"step", "params", "batch_stats", "opt_state", "average"}
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    # What predicts is the average.
    network = load_network(straight / "checkpoints" / "80")
    jax.tree.map(np.testing.assert_array_equal, network.variables, expected["average"])
    assert np.any(
        expected["average"]["params"]["logits"]["kernel"]
        != (expected["params"]["logits"]["kernel"])
    )
