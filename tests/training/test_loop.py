"""The loop when it is told to end, and when its images fail; what it trains is a counter."""

import os
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.pipeline import Batch
from sempart_jax.host.stop_signals import StoppedRunError
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.run_record import is_complete
from sempart_jax.training import loop
from sempart_jax.training.health import CollapsedRunError, UnhealthyRunError
from sempart_jax.training.loop import check_finite_state, check_workdir, fit, registered_run
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
    """Takes steps at once, and notes what it is asked to look at."""

    described = "a counter"
    after_step = staticmethod(lambda step: None)
    while_validating = staticmethod(lambda step: None)
    health = staticmethod(lambda step: None)

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
        self.health(step)

    def open_views(self):
        pass

    def draw_panel(self, step, state, log):
        assert int(unreplicate(state.step)) == step

    def validate(self, step, state):
        self.while_validating(step)
        return {"fine": 0.5}, 0.5


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
    """Train, or continue to train, a counter."""

    def run(batches=images_without_end, **hooks):
        monkeypatch.setattr(loop, "training_batches", lambda images, **options: batches(**options))
        task = Counting()
        for name, hook in hooks.items():
            setattr(task, name, hook)
        with registered_run(
            tmp_path,
            config,
            {},
            last_step=LAST_STEP,
            default=config,
            resumable_fields=(),
            process_fields=(),
        ):
            fit(task, config, ImageFiles([], tmp_path), tmp_path, LAST_STEP)

    return run


def test_a_process_that_does_not_write_says_what_it_alone_knows(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(loop.distributed, "is_writer", lambda: False)

    def batches(**_):
        while True:
            yield Batch(np.zeros((8, 2, 2, 3), np.uint8), (("a.png", "no image"),))

    run(batches)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "process 0: skipped a.png: no image (1 unreadable so far)"
    assert list(tmp_path.iterdir()) == []


def kept_steps(workdir):
    return sorted(
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()
    )


def rows(workdir):
    return [
        (row["step"], "validation" if "validation/iou fine" in row else "train")
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


def test_a_signal_ends_the_run_after_its_step_without_a_look(run, tmp_path, config):
    config.validation.every_steps = 1

    def look(step):
        assert step != 2

    with pytest.raises(StoppedRunError, match="saved step 2") as stopped:
        run(after_step=lambda step: terminate() if step == 2 else None, while_validating=look)
    assert stopped.value.exit_status == 0
    assert kept_steps(tmp_path) == [2]
    assert not is_complete(tmp_path)
    run()
    expected = [(0, "validation"), (1, "train"), (1, "validation"), (2, "train")]
    assert rows(tmp_path) == [*expected, (3, "train"), (3, "validation")]


def test_a_signal_during_a_look_is_answered_after_the_next_step(run, tmp_path):
    with pytest.raises(StoppedRunError, match="saved step 1"):
        run(while_validating=lambda step: terminate())
    assert kept_steps(tmp_path) == [1]
    run()
    assert rows(tmp_path) == ALL_ROWS


def test_a_signal_in_the_last_step_leaves_a_complete_run(run, tmp_path):
    run(after_step=lambda step: terminate() if step == LAST_STEP else None)
    assert rows(tmp_path) == ALL_ROWS
    assert is_complete(tmp_path)


@pytest.mark.parametrize("step", [2, LAST_STEP])
def test_a_collapse_leaves_a_first_checkpoint_but_none_of_the_last_step(run, tmp_path, step):
    def collapse(at):
        if at == step:
            raise CollapsedRunError("flat")

    with pytest.raises(CollapsedRunError):
        run(health=collapse)
    assert kept_steps(tmp_path) == [2] * (step == 2)


def test_what_is_trained_is_kept_where_images_fail(run, tmp_path):
    def failing(**_):
        yield from (next(images_without_end()) for _ in range(2))
        raise OSError("the disk has gone")

    with pytest.raises(OSError, match="the disk has gone"):
        run(batches=failing)
    assert kept_steps(tmp_path) == [2]
    run()
    assert rows(tmp_path) == ALL_ROWS


def test_a_state_that_the_last_update_has_broken_is_not_kept(run, tmp_path, monkeypatch):
    def break_last(step):
        if step == LAST_STEP:
            monkeypatch.setattr("tests.training.test_loop.VALUE", np.nan)

    with pytest.raises(
        UnhealthyRunError, match="step 3: 1 arrays of the state are not finite, first value"
    ):
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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_refused_with_its_array(dtype, value):
    good = jnp.ones((2, 3), dtype)
    check_finite_state(counter().replace(value={"kernel": good, "count": jnp.arange(3)}))
    broken = counter(7).replace(value={"kernel": good.at[1, 2].set(value), "bias": good})
    message = (
        r"step 7: 1 arrays of the state are not finite, first value.kernel.*in a new --workdir"
    )
    with pytest.raises(UnhealthyRunError, match=message):
        check_finite_state(broken)


def test_folders_and_what_is_not_there_yet_are_taken(tmp_path):
    check_workdir(tmp_path)
    check_workdir(tmp_path / "new" / "käse 日本")


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_is_no_place_for_a_run(tmp_path, below):
    file = tmp_path / "afile"
    file.write_text("text")
    with pytest.raises(ValueError, match=f"{file} is a file. Give a folder"):
        check_workdir(file / below)


@pytest.mark.parametrize("name", ["run [1]", "run*", "what?"])
def test_a_pattern_is_no_place_for_a_run(tmp_path, name, monkeypatch):
    with pytest.raises(ValueError, match=r"its path may not hold \[, \* or \?"):
        check_workdir(tmp_path / name / "run")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(ValueError, match="its path may not hold"):
        check_workdir(Path("run"))


def test_a_name_that_orbax_cannot_write_is_refused(tmp_path, monkeypatch):
    name = os.fsdecode(b"caf\xe9")
    refused = r"--workdir='.*caf\\udce9.*': its path must be valid UTF-8"
    with pytest.raises(ValueError, match=refused):
        check_workdir(tmp_path / name / "run")
    # Also where it is only the folder that this process is in.
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(ValueError, match="its path must be valid UTF-8"):
        check_workdir(Path("run"))
