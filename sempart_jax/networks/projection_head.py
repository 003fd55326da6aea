"""DINO's projection head (arXiv 2104.14294, Sec. 3.1, Appendix C): from a class token to logits."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from sempart_jax.kernels.initializers import fan_in_uniform

NORM_EPS = 1e-12
"""Smallest norm that a vector is divided by."""


class ProjectionHead(nn.Module):
    """Three layers, L2 normalisation, and a layer whose outputs are cosines.

    The products of matrices take ``dtype`` and the last one gives float32; norms are float32.

    Attributes:
        out_dim: number of outputs, K.
        hidden: width of the two hidden layers.
        bottleneck: width of what is normalised.
        dtype: type of the matrix products, float32 or bfloat16.
    """

    out_dim: int
    hidden: int = 2048
    bottleneck: int = 256
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "batch width"]) -> Float[Array, "batch out_dim"]:
        """Return the logits of class tokens, float32, each the cosine of two vectors."""
        hidden = nn.gelu(self._dense(self.hidden, "hidden_0")(tokens), approximate=False)
        hidden = nn.gelu(self._dense(self.hidden, "hidden_1")(hidden), approximate=False)
        projected = self._dense(self.bottleneck, "bottleneck")(hidden).astype(jnp.float32)
        return _LastLayer(self.out_dim, self.dtype, name="last_layer")(_unit(projected, axis=1))

    def _dense(self, features: int, name: str) -> nn.Dense:
        # not cut off at two deviations: the released head cuts off at a hundred
        kernel_init = nn.initializers.normal(0.02)
        return nn.Dense(features, dtype=self.dtype, kernel_init=kernel_init, name=name)


class _LastLayer(nn.Module):
    """A linear layer without bias, weight-normalised with all gains fixed at one."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch bottleneck"]) -> Float[Array, "batch out_dim"]:
        width = inputs.shape[1]
        direction = self.param("kernel", fan_in_uniform(width), (width, self.features))
        # x V / |V|, each output by the norm of its own vector
        return jnp.matmul(
            inputs.astype(self.dtype),
            _unit(direction, axis=0).astype(self.dtype),
            preferred_element_type=jnp.float32,
        )


def _unit(vectors: Float[Array, "n m"], axis: int) -> Float[Array, "n m"]:
    # max(|x|², eps²) and not max(|x|, eps): the root has no derivative at zero
    square = jnp.sum(vectors**2, axis=axis, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(square, NORM_EPS**2))
