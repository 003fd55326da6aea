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
def test_networks_are_compared_to_pytorch(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "found.json"
    size = ("--backbone=vit_tiny8", "--side=64", "--batch_size=1")
    finished = benchmark("--only=ncut,training", *size, "--samples=2", f"--json={path}")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(path.read_text())
    assert found["agreement"]["loss terms"] < 1e-4
    assert found["machine"]["versions"]["torch"]
    names = [comparison["name"] for comparison in found["comparisons"]]
    assert names == [
        "training step, both tricks, vit_tiny8, 64 px, batch 1",
        "training step, no trick, vit_tiny8, 64 px, batch 1",
        "N-cut, value and gradient, 8x8 patches, batch 8",
    ]
    for comparison in found["comparisons"]:
        for side in comparison["sides"].values():
            assert len(side["samples"]) == 2
            assert all(sample["wall"] > 0 for sample in side["samples"])
        assert f"| {comparison['name']}" in finished.stdout
    assert found["comparisons"][2]["remark"].startswith("results differ by")


def test_unknown_groups_are_refused():
    finished = benchmark("--only=training,everything")
    assert finished.returncode == 1
    assert "--only=training,everything: choose among training, parts," in finished.stderr


def test_input_asks_for_images():
    finished = benchmark("--only=input")
    assert finished.returncode == 1
    assert "give --images" in finished.stderr
