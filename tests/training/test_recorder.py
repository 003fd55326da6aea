"""Which states of a run are kept."""

import flax.struct
import jax.numpy as jnp
import pytest

from sempart_jax.checkpoints import Checkpoints
from sempart_jax.train_step import replicate
from sempart_jax.training.recorder import RunRecorder


class Small(flax.struct.PyTreeNode):
    step: jnp.ndarray
    weights: jnp.ndarray


class Keeper(RunRecorder):
    def look(self, step, state, *, at_end):
        raise AssertionError("nothing is to be looked at")


def state_of(step, weight=1.0):
    return replicate(Small(jnp.asarray(step), jnp.full((3,), weight)))


@pytest.fixture
def keeper(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with Checkpoints(tmp_path) as checkpoints:
        yield Keeper(tmp_path, checkpoints), checkpoints


def test_a_first_state_is_kept_where_there_is_none(keeper):
    recorder, checkpoints = keeper
    recorder.save_first(state_of(4))
    assert checkpoints.latest_step == 4
    recorder.save_first(state_of(5))
    assert checkpoints.latest_step == 4


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_first_state_that_is_not_finite_is_not_kept(keeper, weight):
    recorder, checkpoints = keeper
    recorder.save_first(state_of(4, weight))
    assert checkpoints.latest_step is None
