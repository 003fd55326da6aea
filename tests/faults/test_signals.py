"""Trainings that are asked to end."""

import os
import signal
import time
from pathlib import Path

import pytest

from sempart_jax.runs.run_record import is_complete
from tests.faults.small_training import (
    A_WHILE,
    STEPS,
    assert_same_end,
    checkpoint_steps,
    finish,
    logged_steps,
    start,
    wait_until,
)

PROMISED_SECONDS = 30


def assert_ends_in_time(group, status):
    started = time.monotonic()
    assert group.wait(A_WHILE) == [status], group.everything()
    seconds = time.monotonic() - started
    assert seconds < PROMISED_SECONDS
    print(f"ended {seconds:.1f} seconds after the signal with status {status}")


@pytest.mark.slow
def test_a_signal_ends_a_training_with_its_last_step_kept(straight, scenes, tmp_path):
    """SIGTERM to the process, then SIGINT to all of a group whose workers have not yet started."""
    rare = {"checkpoint__every_steps": 10_000}
    with start(tmp_path, scenes, **rare) as group:
        wait_until(lambda: 2 in logged_steps(tmp_path), group)
        group.processes[0].send_signal(signal.SIGTERM)
        assert_ends_in_time(group, 0)
        (first,) = checkpoint_steps(tmp_path)
        assert f"stopped: saved step {first}; repeat the command" in group.said(0)
    assert 2 <= first == logged_steps(tmp_path)[-1] < STEPS
    assert not is_complete(tmp_path)

    with start(tmp_path, scenes, data__workers=1, **rare) as group:
        wait_until(lambda: has_worker(group), group, interval=0.002)
        os.killpg(group.processes[0].pid, signal.SIGINT)
        assert_ends_in_time(group, 130)
        assert checkpoint_steps(tmp_path) == [first, first + 1]
        assert f"saved step {first + 1}" in group.said(0)
        assert "Traceback" not in group.said(0)
    finish(tmp_path, scenes)
    assert_same_end(tmp_path, straight)
    assert is_complete(tmp_path)


def has_worker(group):
    """Whether a worker process has been started, which its command line tells."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")")[1].split()[1])
            if parent == group.processes[0].pid and "spawn_main" in (path / "cmdline").read_text():
                return True
        except OSError:
            continue
    return False
