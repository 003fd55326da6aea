"""One life of the program on the command line: train, stop, resume, evaluate, segment, export."""

import json
import re
import signal
import time

import numpy as np
import pytest
from PIL import Image

from sempart_jax import load_exported, load_segmenter
from sempart_jax.data.images import read_grey
from sempart_jax.data.synthetic import write_scenes
from tests.commands import run_module
from tests.process_groups import run_training_group
from tests.test_train import read_metrics

STEPS = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Scenes laid out as ECSSD is, one file that is no image, and a run that was stopped once."""
    root = tmp_path_factory.mktemp("life")
    write_scenes(root / "ECSSD", 10, size=40, seed=3)
    (root / "ECSSD" / "masks").rename(root / "ECSSD" / "ground_truth_mask")
    train_again(root, stop=True)
    return root


def train_again(root, *, stop=False):
    """Train, or continue to train; ends it by SIGTERM after some steps."""
    with run_training_group(
        root / "run",
        root / "ECSSD" / "images",
        processes=1,
        devices=1,
        steps=STEPS if not stop else 10_000,
        checkpoint__every_steps=4,
    ) as group:
        if stop:
            log = root / "run" / "metrics.jsonl"
            while not (log.exists() and log.read_text().count("\n") >= 3):
                assert group.processes[0].poll() is None, group.everything()
                time.sleep(0.05)
            group.processes[0].send_signal(signal.SIGTERM)
        assert group.wait() == [0], group.everything()
        return group.said(0)


def test_a_life(root, tmp_path):
    kept = read_metrics(root / "run")[-1]["step"]
    assert 2 <= kept < STEPS
    assert f"steps {kept} to {STEPS}" in train_again(root)
    rows = read_metrics(root / "run")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))

    report = tmp_path / "report"
    finished = run_module(
        "evaluate", "--workdir", root / "run", "--data_root", root, "--datasets", "ecssd",
        "--protocols", "native", "--postprocessings", "none,guided", "--report", report,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    scores = json.loads((report / "results.json").read_text())["saliency"]
    assert all(0 <= row["iou"] <= 1 and row["images"] == 10 for row in scores)
    assert "data:image/svg+xml" in (report / "report.html").read_text()

    image, out = root / "ECSSD" / "images" / "scene_0001.png", tmp_path / "out"
    (tmp_path / "broken.png").write_bytes(b"no image")
    finished = run_module(
        "segment", image, tmp_path / "broken.png", "--workdir", root / "run", "--out", out,
        "--mask", "soft", "--refine", "none",
    )  # fmt: skip
    assert finished.returncode == 1
    assert re.search(r"failed: .*broken\.png", finished.stderr)
    assert "Traceback" not in finished.stderr
    written = read_grey(out / "masks" / "scene_0001.png")

    segmenter = load_segmenter(root / "run", refine="none")
    with Image.open(image) as picture:
        mask = segmenter(picture)
        np.testing.assert_allclose(written / 255, mask, atol=0.51 / 255 + 1e-4)
        segmenter.export(tmp_path / "exported")
        exported = load_exported(tmp_path / "exported")
        np.testing.assert_allclose(exported(picture), mask, atol=1e-5)
