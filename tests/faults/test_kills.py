"""Trainings that are killed at any moment, and end as if they had not been.

``make faults`` kills 30 times. ``SEMPART_KILLS`` says how often, ``SEMPART_KILLS_SEED`` when.
"""

import contextlib
import os
import re
import time

import numpy as np
import pytest

from tests.faults.small_training import (
    STEPS,
    assert_same_end,
    checkpoint_steps,
    finish,
    start,
)

KILLS = int(os.environ.get("SEMPART_KILLS", 2))
SEED = int(os.environ.get("SEMPART_KILLS_SEED", 0))


def unfinished(workdir):
    """Checkpoints that are being written, or were when a process was killed."""
    found = set()
    for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.add((path.name, status.st_ino, status.st_ctime_ns))
    return found


def start_and_kill(workdir, scenes, rng, *, while_writing):
    """Kill a training; returns whether it has been, and was writing a checkpoint then."""
    before, left_over = checkpoint_steps(workdir), unfinished(workdir)

    def is_writing():
        return bool(unfinished(workdir) - left_over)

    with start(workdir, scenes) as group:
        (process,) = group.processes
        if while_writing:
            while process.poll() is None and not is_writing():
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.03))
        else:
            ends = time.monotonic() + rng.uniform(0, 15)
            while process.poll() is None and time.monotonic() < ends:
                time.sleep(0.01)
        process.kill()
        killed = process.wait() != 0
        said = group.said(0)
    continued = re.search(r"steps (\d+) to", said)
    if continued:
        # From the newest complete checkpoint, and from no other.
        assert int(continued[1]) == max(before, default=0)
    assert "Traceback" not in said
    assert max(checkpoint_steps(workdir), default=0) >= max(before, default=0)
    return killed, killed and is_writing()


@pytest.mark.slow
@pytest.mark.timeout(300 + 90 * KILLS)
def test_a_training_that_is_killed_ends_bit_for_bit_like_an_undisturbed_one(
    straight, scenes, tmp_path
):
    rng = np.random.default_rng(SEED)
    kills, writing, runs = 0, 0, 0
    while kills < KILLS:
        workdir, runs = tmp_path / f"run{runs}", runs + 1
        while kills < KILLS and STEPS not in checkpoint_steps(workdir):
            # Every second one is aimed at the write of a checkpoint.
            killed, wrote = start_and_kill(workdir, scenes, rng, while_writing=kills % 2 == 0)
            kills, writing = kills + killed, writing + wrote
        finish(workdir, scenes)
        assert_same_end(workdir, straight)
        print(f"kills survived {kills} / {KILLS} so far, in {runs} runs", flush=True)
    print(
        f"kills survived {kills} / {KILLS}, {writing} of them while a checkpoint was being "
        f"written, in {runs} runs of {STEPS} steps (SEMPART_KILLS_SEED={SEED})"
    )
