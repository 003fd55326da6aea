"""Scoring a trained run through the command line."""

import json
import re

import pytest

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.scoring import Score
from tests.commands import run_module, run_train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one step, and scenes laid out as ECSSD is."""
    root = tmp_path_factory.mktemp("evaluate")
    write_scenes(root / "ECSSD", 9, size=48, seed=0)
    (root / "ECSSD" / "masks").rename(root / "ECSSD" / "ground_truth_mask")
    finished = run_train(root / "run", root / "ECSSD" / "images", steps=1, config="baseline")
    assert finished.returncode == 0, finished.stderr
    return root


@pytest.mark.slow
def test_table_and_file_hold_every_mask(trained):
    finished = run_module(
        "evaluate", "--workdir", trained / "run", "--data_root", trained, "--datasets", "ecssd"
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads((trained / "run" / "evaluation.json").read_text())
    assert results["foreground_rule"] == "batch"
    scores = {name: Score(**score) for name, score in results["scores"]["ecssd"].items()}
    assert set(scores) == {"fine", "refined", "centre box"}
    for name, score in scores.items():
        assert score.images == 9
        assert 0 < score.accuracy < 1
        assert 0 < score.iou < score.accuracy
        assert 0 < score.max_f_beta < 1
        columns = f"{score.accuracy:.4f} | {score.iou:.4f} | {score.max_f_beta:.4f}"
        assert f"| ecssd | 9 | {name} | {columns} |" in finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir", "/no/run"], "no run in /no/run"),
        (["--workdir", "RUN", "--datasets", "imagenet"], "imagenet.*ecssd"),
        (["--workdir", "RUN", "--datasets", "duts_te"], "DUTS-TE"),
        ([], "workdir"),
    ],
)
def test_errors_are_clear(trained, arguments, message):
    arguments = [str(trained / "run") if value == "RUN" else value for value in arguments]
    finished = run_module("evaluate", "--data_root", trained, *arguments)
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    assert re.search(message, finished.stderr), finished.stderr
