"""``scripts/benchmark.py`` as a user runs it."""

import json
import os
import subprocess
import sys

import pytest

from tests.commands import REPOSITORY, command_environment


def run(*command):
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "scripts")))
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=REPOSITORY,
        env={**command_environment(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_rows_are_a_table_and_a_file(tmp_path):
    path = tmp_path / "results.json"
    finished = run(
        "scripts/benchmark.py",
        "--only=guided_filter,ncut",
        "--small",
        "--device=cpu",
        f"--out={path}",
    )
    assert finished.returncode == 0, finished.stderr
    _, table = finished.stdout.split("| row |")
    head, _, *rows = table.splitlines()
    assert head.endswith("| peak memory |")
    measured = json.loads(path.read_text())["rows"]
    assert [row.split("|")[1].strip() for row in rows] == [row["row"] for row in measured]
    names = {row["row"] for row in measured}
    assert "N-cut, value and gradient, 8x8 patches, batch 8" in names
    assert "guided filter, jitted, 64x64" in names
    assert all(row["seconds"] > 0 and len(row["samples"]) == 2 for row in measured)


@pytest.mark.parametrize("other", ["1.1", "float('nan')"])
def test_sides_that_disagree_are_not_timed(other):
    lines = [
        "import sys, benchmark",
        "from benchmark import Row, Side",
        f"row = Row('toy', Side('ours', lambda: [1.0]), Side('theirs', lambda: [{other}]))",
        "benchmark.ROWS['ncut'] = lambda size: iter([row])",
        "sys.argv[1:] = ['--only=ncut', '--small', '--device=cpu']",
        "benchmark.command_line.run(benchmark._main)",
    ]
    finished = run("-c", "\n".join(lines))
    assert finished.returncode == 1
    assert "| toy |" not in finished.stdout
    assert "error: toy: ours and theirs differ by" in finished.stderr


def test_unknown_rows_are_refused():
    finished = run("scripts/benchmark.py", "--only=ncut,everything", "--device=cpu")
    assert finished.returncode == 1
    assert "error: --only=ncut,everything: choose among memory, gpu, ncut," in finished.stderr
