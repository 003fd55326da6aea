"""``scripts/measure_memory.py`` as a user runs it."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tests.commands import REPOSITORY, command_environment


def measure(*arguments):
    return subprocess.run(
        [sys.executable, "scripts/measure_memory.py", *arguments],
        cwd=REPOSITORY,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def gibibytes(line):
    return float(re.fullmatch(r"mask, 32 px: (\S+) GiB", line)[1])


@pytest.mark.slow
def test_memory_and_time_of_each_call_are_printed():
    finished = measure("mask", "--side=32", "--backbone=vit_tiny8")
    assert finished.returncode == 0, finished.stderr
    first, second, peak = finished.stdout.splitlines()
    pattern = r"call \d: \S+ s, processor (\S+) s"
    seconds = [float(re.fullmatch(pattern, line)[1]) for line in (first, second)]
    # The first one compiles, whatever was compiled before.
    assert seconds[0] > 5 * seconds[1]
    assert 0.1 < gibibytes(peak) < 2


@pytest.mark.slow
def test_memory_of_the_process_that_started_it_does_not_count():
    held = np.ones(2 * 2**30, np.uint8)
    finished = measure("mask", "--side=32", "--backbone=vit_tiny8", "--calls=1", "--dtype=bfloat16")
    assert finished.returncode == 0, finished.stderr
    assert 0.1 < gibibytes(finished.stdout.splitlines()[-1]) < held.nbytes / 2**30


@pytest.mark.parametrize("works", [[], ["masks"], ["mask", "tricks"]])
def test_works_that_are_not_known_are_named(works):
    finished = measure(*works)
    assert finished.returncode == 1
    assert "name one work among mask, baseline, tricks" in finished.stderr
