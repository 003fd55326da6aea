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
    assert {name: device["platform"] for name, device in found["devices"].items()} == {
        "JAX": "cpu",
        "PyTorch": "cpu",
    }


def test_unknown_groups_are_refused():
    finished = benchmark("--only=training,everything")
    assert finished.returncode == 1
    assert "--only=training,everything: choose among training, parts," in finished.stderr


def test_input_asks_for_images():
    finished = benchmark("--only=input")
    assert finished.returncode == 1
    assert "give --images" in finished.stderr


def test_batch_sizes_are_positive_integers():
    finished = benchmark("--device_table", "--batch_sizes=2,all")
    assert finished.returncode == 1
    assert "error: --batch_sizes=2,all: give positive integers" in finished.stderr


def test_pairs_that_fail_are_rows_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "found.json"
    lines = [
        "import sys",
        "sys.path.insert(0, 'scripts')",
        "import benchmark",
        "from benchmarking.checks import agree",
        "from benchmarking.paired import Pair, Side",
        "def toy(kind, **options):",
        "    return Side(kind, f'tests.benchmarking.toy_workloads:{kind}', options)",
        "def note(result):",
        f"    return toy('note', log={str(tmp_path / 'log')!r}, name='n', result=result)",
        "benchmark.planned_pairs = lambda cache: [",
        "    Pair('kernels', 'broken', toy('fail'), toy('fail')),",
        "    Pair('kernels', 'apart', note(0.0), note(1.0), check=agree),",
        "    Pair('kernels', 'whole', note(1.0), note(1.0), check=agree),",
        "]",
        "benchmark.command_line.run(benchmark._main)",
    ]
    finished = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), "--samples=1", f"--json={path}"],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 1
    assert "error: 2 of 3 comparisons failed" in finished.stderr
    # With its traceback.
    assert "toy_workloads.py" in finished.stderr
    broken, apart, whole = json.loads(path.read_text())["comparisons"]
    assert "no toy today" in broken["error"]
    assert apart["error"] == "the results differ by 1.0e+00, more than 1e-04"
    assert whole["remark"] == "results differ by 0e+00 at most"
    *_, first, second, third, _, _ = finished.stdout.splitlines()
    assert first.startswith("| broken")
    assert "failed: ValueError: no toy today" in first
    assert "failed: the results differ by" in second
    assert third.startswith("| whole")
