"""Training end to end through the command line."""

import json
import re

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
        steps=40,
        checkpoint__every_steps=20,
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
    assert [row["step"] for row in training] == list(range(1, 41))
    terms = ["ncut", "gtv_fine", "gtv_coarse", "consistency", "ncut_crop", "equivariance"]
    weights = [1, 1, 1, 1, 0.01, 0.01]
    for row in training:
        total = sum(w * row[f"train/{term}"] for term, w in zip(terms, weights, strict=True))
        assert row["train/total"] == pytest.approx(total, rel=1e-5)
        assert row["train/images_per_second"] > 0
    validation = [row for row in rows if "validation/iou fine" in row]
    assert [row["step"] for row in validation] == [0, 40]
    assert sorted(path.name for path in (workdir / "panels").iterdir()) == [
        "step_0000000.png",
        "step_0000040.png",
    ]
    assert (workdir / "curves.png").is_file()
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [20, 40]
    best = [path.name for path in (workdir / "best").iterdir() if path.name.isdigit()]
    score = {row["step"]: row["validation/iou fine"] for row in validation}
    assert best == [str(max(score, key=score.get))]
    assert "image/s" in finished.stderr
    assert "step 40, validation IoU" in finished.stdout + finished.stderr


@pytest.mark.slow
def test_a_run_drawn_to_the_principal_component_is_resumed_bit_for_bit(tmp_path, scenes):
    def train(workdir, steps):
        finished = run_train(workdir, scenes / "images", steps=steps, loss__weights__principal=2.0)
        assert finished.returncode == 0, finished.stderr
        return read_parameters(workdir, steps)

    straight = train(tmp_path / "straight", 6)
    train(tmp_path / "resumed", 3)
    jax.tree.map(np.testing.assert_array_equal, straight, train(tmp_path / "resumed", 6))
    rows = read_metrics(tmp_path / "straight")
    assert all(0 < row["train/principal"] < row["train/total"] / 2 for row in rows)
    assert load_network(tmp_path / "straight").foreground_chosen


@pytest.mark.slow
def test_unreadable_images_are_named_counted_and_skipped(tmp_path):
    images = tmp_path / "images"
    write_scenes(tmp_path, 5, size=40, seed=0)
    (images / "broken.png").write_bytes(b"no image")
    whole = (images / "scene_0000.png").read_bytes()
    (images / "cut off.png").write_bytes(whole[: len(whole) // 2])
    finished = run_train(tmp_path / "run", images, steps=4, config="baseline")
    assert finished.returncode == 0, finished.stderr
    output = finished.stdout + finished.stderr
    for name in ("broken.png", "cut off.png"):
        assert len(re.findall(rf"skipped \S*.*{name}", output)) == 1
    assert "2 unreadable so far" in output


@pytest.mark.slow
def test_a_folder_without_a_readable_image_is_an_error(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for index in range(3):
        (images / f"{index}.jpg").write_bytes(b"<html>")
    finished = run_train(tmp_path / "run", images, steps=1)
    assert finished.returncode == 1
    assert "none of the 3 files can be read" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer.learning_rate": 1e30}, r"step \d+: .*not finite"),
        (
            {"health.lowest_mean_mask": 0.98, "health.collapse_steps": 5},
            r"step 5: the masks have collapsed to all background .*5 steps in a row",
        ),
    ],
)
def test_a_sick_run_stops_and_keeps_its_last_good_checkpoint(tmp_path, scenes, fields, message):
    finished = run_train(
        tmp_path,
        scenes / "images",
        steps=12,
        checkpoint__every_steps=1,
        config="baseline",
        **fields,
    )
    assert finished.returncode == 1
    assert re.search(message, finished.stderr), finished.stderr
    assert "Traceback" not in finished.stderr
    with Checkpoints(tmp_path) as checkpoints:
        step = checkpoints.latest_step
    assert step is not None
    sick_step = int(re.search(r"step (\d+): ", finished.stderr)[1])
    assert step < sick_step


@pytest.mark.slow
def test_real_photographs_as_laid_out_on_disk(tmp_path, reference_data):
    """The DUTS root is given; its masks are no training images."""
    finished = run_train(tmp_path, reference_data / "DUTS", steps=2, log__panel_images=2)
    assert finished.returncode == 0, finished.stderr
    assert "1200 images" in finished.stdout + finished.stderr
    with Image.open(tmp_path / "panels" / "step_0000002.png") as panel:
        assert panel.width > panel.height
