"""States that are kept, and those that are refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from ml_collections import ConfigDict

from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.training.health import UnhealthyRunError
from sempart_jax.training.recorder import RunRecorder, check_finite_state, in_parts
from sempart_jax.two_tricks.train_step import replicate


@struct.dataclass
class State:
    """Arrays of a few types."""

    step: jnp.ndarray
    params: dict[str, jnp.ndarray]


def state_of(**params):
    return State(jnp.asarray(7, jnp.int32), params)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_refused_with_its_array(dtype, value):
    good = jnp.ones((2, 3), dtype)
    check_finite_state(state_of(kernel=good, count=jnp.arange(3)))
    with pytest.raises(
        UnhealthyRunError,
        match=r"step 7: 1 arrays of the state, params.kernel first.*in a new --workdir",
    ):
        check_finite_state(state_of(kernel=good.at[1, 2].set(value), bias=good))


@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_predictor_is_interrupted_between_its_parts(count):
    seen = []

    def predict(images):
        seen.append(len(images))
        return [image[..., 0].astype(np.float32) for image in images]

    asked = []
    images = [np.full((2, 2, 3), number, np.uint8) for number in range(count)]
    masks = in_parts(predict, 2, lambda: asked.append(True))(images)
    assert [int(mask[0, 0]) for mask in masks] == list(range(count))
    assert sum(seen) == count
    assert len(asked) == len(seen)
    assert max(seen, default=0) <= 16  # two on each of eight devices


class Keeper(RunRecorder):
    def draw_panel(self, step, state):
        raise AssertionError("nothing is to be drawn")

    def validate(self, step, state, between_parts):
        raise AssertionError("nothing is to be measured")


@pytest.fixture
def keeper(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with Checkpoints(tmp_path) as checkpoints:
        yield Keeper(ConfigDict(), tmp_path, checkpoints), checkpoints


def test_a_first_state_is_kept_where_there_is_none(keeper):
    recorder, checkpoints = keeper
    recorder.save_first(replicate(state_of(weights=jnp.ones(3))))
    assert checkpoints.latest_step == 7
    later = state_of(weights=jnp.ones(3)).replace(step=jnp.asarray(8, jnp.int32))
    recorder.save_first(replicate(later))
    assert checkpoints.latest_step == 7


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_first_state_that_is_not_finite_is_not_kept(keeper, weight):
    recorder, checkpoints = keeper
    recorder.save_first(replicate(state_of(weights=jnp.full(3, weight))))
    assert checkpoints.latest_step is None
