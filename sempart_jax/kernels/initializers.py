"""Layers that start as PyTorch's do, whose released networks are trained from there."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike


def fan_in_uniform(fan_in: int) -> nn.initializers.Initializer:
    """Draw from +-1/sqrt(fan_in), kernels and biases alike, as ``torch.nn.Linear`` starts.

    Args:
        fan_in: inputs of one output; a bias cannot tell them from its own shape.

    Returns:
        An initialiser for arrays of any shape.
    """
    bound = fan_in**-0.5

    def initialise(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


def fan_in_dense(
    features: int,
    fan_in: int,
    name: str,
    use_bias: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> nn.Dense:
    """Return a linear layer whose float32 kernel and bias start by :func:`fan_in_uniform`."""
    initialiser = fan_in_uniform(fan_in)
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=initialiser,
        bias_init=initialiser,
        name=name,
    )
