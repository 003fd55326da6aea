"""``scripts/benchmark_accelerator.py`` as a user runs it."""

import json
import os
import subprocess
import sys

import pytest

from tests.commands import REPOSITORY, command_environment

NEEDLESS = ("ml_collections", "torch", "grain", "PIL", "safetensors", "huggingface_hub")
"""What a bare machine with an accelerator may lack."""


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "scripts/benchmark_accelerator.py", *map(str, arguments)],
        cwd=REPOSITORY,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


@pytest.mark.slow
def test_ours_is_measured_on_a_cpu(tmp_path):
    path = tmp_path / "found.json"
    small = ["--backbone=vit_tiny8", "--side=32", "--samples=1", "--matrix_size=64"]
    chosen = ["--only=rates,table,largest", "--works=fine", "--dtypes=bfloat16", "--batch_sizes=1"]
    finished = benchmark(*small, *chosen, f"--json={path}")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(path.read_text())
    assert found["device"]["platform"] == "cpu"
    (row,) = found["rows"]
    assert row["images_per_second"] > 0
    assert row["share"] > 0
    assert "| inference, without guided filter" in finished.stdout
    assert "not searched for" in finished.stdout
    assert "at most 1% apart: not measured" in finished.stdout


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--only=rates,all", "--only=rates,all: choose among rates, table, losses, largest"),
        ("--batch_sizes=8,0", "--batch_sizes=8,0: give positive integers"),
    ],
)
def test_flags_that_make_no_sense_are_named(flag, said):
    finished = benchmark(flag)
    assert finished.returncode == 1
    assert f"error: {said}" in finished.stderr


def test_a_bare_machine_can_measure_all_but_losses():
    lines = [
        "import sys",
        f"sys.modules.update(dict.fromkeys({NEEDLESS}))",
        "import benchmark_accelerator",
        "import benchmarking.device, benchmarking.matrix_rates, benchmarking.accelerator_work",
    ]
    finished = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "scripts"), str(REPOSITORY)]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
