"""States that are kept, and those that are refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from sempart_jax.training.health import UnhealthyRunError
from sempart_jax.training.recorder import check_finite_state, in_parts


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
        UnhealthyRunError, match=r"step 7: 1 arrays of the state, params.kernel first.*Lower opt"
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
