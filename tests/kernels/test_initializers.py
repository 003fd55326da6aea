import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sempart_jax.kernels.initializers import fan_in_dense, fan_in_uniform


class OneLayer(nn.Module):
    use_bias: bool

    @nn.compact
    def __call__(self, x):
        return fan_in_dense(300, x.shape[-1], "layer", use_bias=self.use_bias)(x)


def initialise(use_bias: bool):
    return OneLayer(use_bias).init(jax.random.key(0), jnp.zeros((1, 16)))["params"]["layer"]


def assert_uniform_within(values, bound):
    values = np.asarray(values).ravel()
    assert 0.98 * bound < values.max() <= bound
    assert -bound <= values.min() < -0.98 * bound
    np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.08)


def test_kernel_and_bias_are_uniform_within_one_over_the_root_of_the_inputs():
    layer = initialise(use_bias=True)
    assert layer["kernel"].shape == (16, 300)
    assert_uniform_within(layer["kernel"], 0.25)
    # A bias has no fan-in of its own: it takes the layer's.
    assert_uniform_within(layer["bias"], 0.25)


def test_bias_can_be_left_out():
    assert initialise(use_bias=False).keys() == {"kernel"}


def test_shape_does_not_change_the_range():
    draw = fan_in_uniform(100)(jax.random.key(1), (3, 3, 50, 7), jnp.float32)
    assert draw.shape == (3, 3, 50, 7)
    assert_uniform_within(draw, 0.1)
