"""``scripts/benchmark.py`` as a user runs it."""

import json
import os
import subprocess
import sys

import pytest

from tests.commands import REPOSITORY


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "scripts/benchmark.py", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


@pytest.mark.slow
def test_ours_is_compared_to_pytorch(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "found.json"
    finished = benchmark("--only=ncut", "--side=64", "--samples=2", f"--json={path}")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(path.read_text())
    assert found["agreement"]["loss terms"] < 1e-4
    assert found["machine"]["versions"]["torch"]
    (comparison,) = found["comparisons"]
    assert comparison["name"] == "N-cut, value and gradient, 8x8 patches, batch 8"
    for side in comparison["sides"].values():
        assert len(side["samples"]) == 2
        assert all(sample["wall"] > 0 for sample in side["samples"])
    assert f"| {comparison['name']}" in finished.stdout
    assert comparison["remark"].startswith("results differ by")


def test_unknown_groups_are_refused():
    finished = benchmark("--only=training,everything")
    assert finished.returncode == 1
    assert "--only=training,everything: choose among training, parts," in finished.stderr


def test_input_asks_for_images():
    finished = benchmark("--only=input")
    assert finished.returncode == 1
    assert "give --images" in finished.stderr
