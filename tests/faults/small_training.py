"""A training of seconds that is disturbed, and compared with one that was not."""

import json
import time

import jax
import numpy as np

from tests.process_groups import run_training_group
from tests.test_train import read_metrics, read_parameters

STEPS = 12
A_WHILE = 300


def start(workdir, scenes, *, steps=STEPS, **fields):
    """Start to train in a process of its own, with a checkpoint at each step."""
    return run_training_group(
        workdir,
        scenes / "images",
        processes=1,
        devices=1,
        steps=steps,
        **({"checkpoint__every_steps": 1} | fields),
        validation__images=scenes / "images",
        validation__masks=scenes / "masks",
    )


def finish(workdir, scenes, **fields):
    """Train to the end; returns what it has said."""
    with start(workdir, scenes, **fields) as group:
        assert group.wait(A_WHILE) == [0], group.everything()
        return group.said(0)


def checkpoint_steps(workdir):
    """Steps of the complete checkpoints."""
    folder = workdir / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def rows(workdir):
    """What was logged, without what the clock says."""
    return [
        {name: value for name, value in row.items() if name != "train/images_per_second"}
        for row in read_metrics(workdir)
    ]


def wait_until(condition, group, interval=0.01):
    """Wait until something holds; fails if the process ends before."""
    deadline = time.monotonic() + A_WHILE
    while not condition():
        assert group.processes[0].poll() is None, group.everything()
        assert time.monotonic() < deadline, group.everything()
        time.sleep(interval)


def logged_steps(workdir):
    """Steps in the log of a run that is being written."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line)["step"] for line in lines]


def assert_same_end(workdir, straight, steps=STEPS):
    """The last state and all rows of the log are those of the undisturbed run."""
    ours, expected = read_parameters(workdir, steps), read_parameters(straight, steps)
    assert set(ours) == set(expected) == {"step", "params", "batch_stats", "opt_state"}
    for name in expected:
        jax.tree.map(np.testing.assert_array_equal, ours[name], expected[name])
    assert rows(workdir) == rows(straight)
    training = [row["step"] for row in rows(workdir) if "train/total" in row]
    assert training == list(range(1, steps + 1))
