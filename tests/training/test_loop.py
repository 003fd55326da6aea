"""The loop when it is told to end, and when its images fail; what it trains is a counter."""

import os
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.pipeline import Batch
from sempart_jax.host.stop_signals import StoppedRunError, StopSignals
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.run_record import is_complete, missed_look, register_run
from sempart_jax.training import awaited_batches, loop
from sempart_jax.training.health import UnhealthyRunError
from sempart_jax.training.log import TrainingLog
from sempart_jax.training.loop import TrainingRun
from sempart_jax.training.recorder import RunRecorder, in_parts
from sempart_jax.training.task import TrainingTask
from sempart_jax.two_tricks.train_step import replicate, unreplicate
from tests.test_train import read_metrics

LAST_STEP = 3
VALUE = 1.0


@struct.dataclass
class Counter:
    """A state that counts its steps."""

    step: jnp.ndarray
    value: jnp.ndarray


def counter(step=0):
    return Counter(jnp.asarray(step, jnp.int32), jnp.asarray(step * VALUE))


class Counting(TrainingTask):
    """Takes steps at once."""

    described = "a counter"
    after_step = staticmethod(lambda step: None)

    def empty_state(self):
        return counter()

    initial_state = empty_state

    def take_step(self, state, examples):
        assert examples.image.dtype == np.uint8
        step = int(unreplicate(state.step)) + 1
        self.after_step(step)
        return replicate(counter(step)), {"total": np.ones(8)}

    def check_health(self, step, metrics):
        assert metrics == {"total": 1}

    recorder = None


class Looking(RunRecorder):
    """Looks by calling a function every few images."""

    while_validating = staticmethod(lambda step: None)

    def __init__(self, config, workdir, checkpoints, log):
        super().__init__(config, workdir, checkpoints)
        self._log = log

    def draw_panel(self, step, state):
        assert int(unreplicate(state.step)) == step

    def validate(self, step, state, between_parts):
        def predict(images):
            self.while_validating(step)
            return [np.zeros((2, 2), np.float32)] * len(images)

        images = [np.zeros((2, 2, 3), np.uint8)] * 40
        assert len(in_parts(predict, 2, between_parts)(images)) == 40
        self._log.scalars(step, {"iou": 0.5}, "validation")


def images_without_end(**_):
    while True:
        yield Batch(np.zeros((8, 2, 2, 3), np.uint8), ())


@pytest.fixture
def config():
    config = default_config()
    config.log.every_steps = 1
    return config


@pytest.fixture
def run(tmp_path, monkeypatch, config):
    """Register, resume and train as a session does; returns steps of checkpoints."""

    def run(batches=images_without_end, after_step=None, while_validating=None):
        monkeypatch.setattr(loop, "training_batches", lambda images, **options: batches(**options))
        task = Counting()
        task.after_step = after_step or Counting.after_step
        register_run(tmp_path, config, {}, last_step=LAST_STEP, default=config, resumable_fields=())
        signals = StopSignals()
        with signals.noticed(), Checkpoints(tmp_path) as checkpoints:
            state = checkpoints.resume(counter()) or counter()
            first = int(state.step)
            with TrainingLog(tmp_path, first_step=first, last_step=LAST_STEP, batch_size=8) as log:
                recorder = Looking(config, tmp_path, checkpoints, log)
                recorder.while_validating = while_validating or Looking.while_validating
                TrainingRun(
                    config,
                    task,
                    state,
                    images=ImageFiles([], tmp_path),
                    log=log,
                    recorder=recorder,
                    signals=signals,
                ).to_end(LAST_STEP)

    return run


def kept_steps(workdir):
    return sorted(
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()
    )


def rows(workdir):
    return [
        (row["step"], "validation" if "validation/iou" in row else "train")
        for row in read_metrics(workdir)
    ]


ALL_ROWS = [(0, "validation"), (1, "train"), (2, "train"), (3, "train"), (3, "validation")]


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_an_undisturbed_run_looks_at_both_ends(run, tmp_path):
    run()
    assert kept_steps(tmp_path) == [3]
    assert rows(tmp_path) == ALL_ROWS
    assert is_complete(tmp_path)


def test_a_signal_while_the_last_state_is_validated_keeps_it_and_validates_it_later(run, tmp_path):
    validated = []

    def slowly(step):
        validated.append(step)
        if step == 3:
            terminate()

    with pytest.raises(StoppedRunError, match="Step 3 is kept") as stopped:
        run(while_validating=slowly)
    assert stopped.value.exit_status == 0
    assert validated.count(3) == 1
    assert kept_steps(tmp_path) == [3]
    assert rows(tmp_path) == ALL_ROWS[:-1]
    assert not is_complete(tmp_path)
    assert missed_look(tmp_path) == 3

    run()
    assert rows(tmp_path) == ALL_ROWS
    assert is_complete(tmp_path)
    assert missed_look(tmp_path) is None
    run()
    assert rows(tmp_path) == ALL_ROWS


def test_a_signal_that_is_pending_is_answered_before_a_look(run, tmp_path, config):
    config.validation.every_steps = 1

    def look(step):
        assert step != 2

    with pytest.raises(StoppedRunError, match="Step 2 is kept"):
        run(after_step=lambda step: terminate() if step == 2 else None, while_validating=look)
    assert kept_steps(tmp_path) == [2]
    run()
    expected = [(0, "validation")]
    for step in (1, 2, 3):
        expected += [(step, "train"), (step, "validation")]
    assert rows(tmp_path) == expected


def test_a_signal_while_nothing_is_trained_yet_keeps_nothing(run, tmp_path):
    with pytest.raises(StoppedRunError, match="Nothing was trained yet: the same command"):
        run(while_validating=lambda step: terminate())
    assert kept_steps(tmp_path) == []
    run()
    assert rows(tmp_path) == ALL_ROWS


def test_a_signal_ends_the_wait_for_a_batch_that_never_comes(run, tmp_path, monkeypatch):
    monkeypatch.setattr(awaited_batches, "_GRACE_SECONDS", 0.1)
    answer = threading.Event()

    def stuck(**_):
        yield from (next(images_without_end()) for _ in range(2))
        threading.Timer(0.2, terminate).start()
        assert answer.wait(60)

    started = time.monotonic()
    with pytest.raises(StoppedRunError, match="Step 2 is kept"):
        run(batches=stuck)
    assert time.monotonic() - started < 20
    assert kept_steps(tmp_path) == [2]
    assert awaited_batches.is_stuck()
    answer.set()
    while awaited_batches.is_stuck():
        time.sleep(0.01)


def test_what_is_trained_is_kept_where_images_fail(run, tmp_path):
    def failing(**_):
        yield from (next(images_without_end()) for _ in range(2))
        raise OSError("the disk has gone")

    with pytest.raises(OSError, match="the disk has gone"):
        run(batches=failing)
    assert kept_steps(tmp_path) == [2]
    assert not awaited_batches.is_stuck()
    run()
    assert rows(tmp_path) == ALL_ROWS


def test_a_state_that_the_last_update_has_broken_is_not_kept(run, tmp_path, monkeypatch):
    def break_last(step):
        if step == LAST_STEP:
            monkeypatch.setattr("tests.training.test_loop.VALUE", np.nan)

    with pytest.raises(UnhealthyRunError, match="step 3: 1 arrays of the state, value first"):
        run(after_step=break_last)
    assert kept_steps(tmp_path) == []
    assert rows(tmp_path) == ALL_ROWS[:-1]


def test_batches_are_closed_at_the_end(run):
    closed = []

    def batches(**_):
        try:
            yield from images_without_end()
        finally:
            closed.append(True)

    run(batches=batches)
    assert closed == [True]
