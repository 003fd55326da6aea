"""Trainings that are killed at any moment, and end as if they had not been.

``make faults`` kills 30 times. ``SEMPART_KILLS`` says how often, ``SEMPART_KILLS_SEED`` when.
"""

import contextlib
import os
import re
import time
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from sempart_jax.networks.pretrained import BACKBONE_FILE
from tests.faults.small_training import (
    A_WHILE,
    STEPS,
    assert_same_end,
    checkpoint_steps,
    finish,
    rows,
    start,
)
from tests.process_groups import Group
from tests.test_pretrain import FIELDS
from tests.test_train import read_parameters

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


def start_and_kill(workdir, begin, rng, *, while_writing):
    """Kill what ``begin`` starts; returns whether it was, and was writing a checkpoint then."""
    before, left_over = checkpoint_steps(workdir), unfinished(workdir)

    def is_writing():
        return bool(unfinished(workdir) - left_over)

    with begin() as group:
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
            killed, wrote = start_and_kill(
                workdir, partial(start, workdir, scenes), rng, while_writing=kills % 2 == 0
            )
            kills, writing = kills + killed, writing + wrote
        finish(workdir, scenes)
        assert_same_end(workdir, straight)
        print(f"kills survived {kills} / {KILLS} so far, in {runs} runs", flush=True)
    print(
        f"kills survived {kills} / {KILLS}, {writing} of them while a checkpoint was being "
        f"written, in {runs} runs of {STEPS} steps (SEMPART_KILLS_SEED={SEED})"
    )


PRETRAINING_KILLS = 2


def start_pretraining(workdir, scenes):
    """Start to pretrain in a process of its own, with a checkpoint at each step."""
    fields = FIELDS | {
        "backbone.name": "vit_tiny8",
        "data.train": scenes / "images",
        "steps": STEPS,
        "checkpoint.every_steps": 1,
        "log.panel_images": 0,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    program = ["tests/small_vit.py", "-m", "sempart_jax.pretrain"]
    command = [*program, "--config", "configs/dino_pretrain.py", "--workdir", workdir, *flags]
    return Group([command], devices=1)


@pytest.mark.slow
@pytest.mark.skipif("SEMPART_KILLS" not in os.environ, reason="see `make faults`")
def test_a_pretraining_that_is_killed_ends_bit_for_bit_like_an_undisturbed_one(scenes, tmp_path):
    rng = np.random.default_rng(SEED)
    straight, workdir = tmp_path / "straight", tmp_path / "run"
    for number in range(PRETRAINING_KILLS):
        begin = partial(start_pretraining, workdir, scenes)
        killed, _ = start_and_kill(workdir, begin, rng, while_writing=number % 2 == 0)
        assert killed, "it has ended before: let it take more steps"
    for folder in (straight, workdir):
        with start_pretraining(folder, scenes) as group:
            assert group.wait(A_WHILE) == [0], group.everything()
    jax.tree.map(
        np.testing.assert_array_equal,
        *(read_parameters(folder, STEPS) for folder in (workdir, straight)),
    )
    # The order of a file's header is not the same each time.
    ours, expected = (load_file(folder / BACKBONE_FILE) for folder in (workdir, straight))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    assert rows(workdir) == rows(straight)
    assert [row["step"] for row in rows(workdir)] == list(range(1, STEPS + 1))
    print(f"kills of a pretraining survived {PRETRAINING_KILLS} / {PRETRAINING_KILLS}")
