"""Training end to end through the command line."""

import json
import re
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.runs.load_network import load_network
from tests.commands import run_train


def read_metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def read_parameters(workdir, step):
    """Read a checkpoint without the code under test."""
    path = workdir / "checkpoints" / str(step) / "default"
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(path)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 10, size=40, seed=3)
    return folder


@pytest.fixture(scope="module")
def straight_run(tmp_path_factory, scenes):
    workdir = tmp_path_factory.mktemp("straight")
    finished = run_train(
        workdir,
        scenes / "images",
        steps=10,
        checkpoint__every_steps=5,
        log__panel_images=2,
        validation__images=scenes / "images",
        validation__masks=scenes / "masks",
    )
    assert finished.returncode == 0, finished.stderr
    return workdir, finished


@pytest.mark.slow
def test_a_run_leaves_metrics_panels_board_and_checkpoints(straight_run):
    workdir, finished = straight_run
    rows = read_metrics(workdir)
    training = [row for row in rows if "train/total" in row]
    assert [row["step"] for row in training] == list(range(1, 11))
    terms = ["ncut", "gtv_fine", "gtv_coarse", "consistency", "ncut_crop", "equivariance"]
    weights = [1, 1, 1, 1, 0.01, 0.01]
    for row in training:
        total = sum(w * row[f"train/{term}"] for term, w in zip(terms, weights, strict=True))
        assert row["train/total"] == pytest.approx(total, rel=1e-5)
        assert row["train/images_per_second"] > 0
    validation = [row for row in rows if "validation/iou fine" in row]
    assert [row["step"] for row in validation] == [0, 10]
    assert sorted(path.name for path in (workdir / "panels").iterdir()) == [
        "step_0000000.png",
        "step_0000010.png",
    ]
    assert (workdir / "curves.png").is_file()
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [5, 10]
    best = [path.name for path in (workdir / "best").iterdir() if path.name.isdigit()]
    score = {row["step"]: row["validation/iou fine"] for row in validation}
    assert best == [str(max(score, key=score.get))]
    assert "image/s" in finished.stderr
    assert "step 10, validation IoU" in finished.stdout + finished.stderr


@pytest.mark.slow
def test_a_run_drawn_to_the_principal_component_is_resumed_bit_for_bit(tmp_path, scenes):
    def train(workdir):
        fields = {"loss.weights.principal": 2.0, "checkpoint.every_steps": 3}
        finished = run_train(workdir, scenes / "images", steps=6, **fields)
        assert finished.returncode == 0, finished.stderr
        return read_parameters(workdir, 6)

    straight = train(tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed/checkpoints/6")
    jax.tree.map(np.testing.assert_array_equal, straight, train(tmp_path / "resumed"))
    rows = read_metrics(tmp_path / "straight")
    assert all(0 < row["train/principal"] < row["train/total"] / 2 for row in rows)
    assert load_network(tmp_path / "straight").foreground_chosen


@pytest.mark.slow
def test_a_sick_run_stops_and_keeps_its_last_good_checkpoint(tmp_path, scenes):
    """Collapsed masks stop it in the same way, see training/test_loop.py and test_health.py."""
    rate = {"optimizer.learning_rate": 1e30}
    finished = run_train(
        tmp_path, scenes / "images", steps=12, checkpoint__every_steps=1, config="baseline", **rate
    )
    assert finished.returncode == 1
    sick = re.search(r"step (\d+): .*not finite", finished.stderr)
    assert sick, finished.stderr
    assert "Traceback" not in finished.stderr
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step < int(sick[1])


@pytest.mark.slow
def test_real_photographs_as_laid_out_on_disk(tmp_path, reference_data):
    """The DUTS root is given; its masks are no training images."""
    finished = run_train(tmp_path, reference_data / "DUTS", steps=2, log__panel_images=2)
    assert finished.returncode == 0, finished.stderr
    assert "1200 images" in finished.stdout + finished.stderr
    with Image.open(tmp_path / "panels" / "step_0000002.png") as panel:
        assert panel.width > panel.height
