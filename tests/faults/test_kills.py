"""Trainings that are killed at any moment, and end as if they had not been.

``make faults`` kills 30 times. ``SEMPART_KILLS`` says how often, ``SEMPART_KILLS_SEED`` when.
"""

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
    wait_until,
)

KILLS = int(os.environ.get("SEMPART_KILLS", 2))
SEED = int(os.environ.get("SEMPART_KILLS_SEED", 0))


def is_writing(workdir):
    return bool(list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")))


def start_and_kill(workdir, scenes, rng, *, while_writing):
    """Kill a training; returns whether it has been, and was writing a checkpoint then."""
    before = checkpoint_steps(workdir)
    with start(workdir, scenes) as group:
        (process,) = group.processes
        if while_writing:
            wait_until(
                lambda: process.poll() is not None or is_writing(workdir), group, interval=0.0005
            )
            time.sleep(rng.uniform(0, 0.03))
        else:
            ends = time.monotonic() + rng.uniform(0, 15)
            while time.monotonic() < ends and process.poll() is None:
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
    return killed, killed and is_writing(workdir)


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
