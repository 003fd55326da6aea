"""Stochastic depth (arXiv 1603.09382) of a transformer: residual branches left out at random."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key


def draw_branch_scale(
    keys: Key[Array, " batch"], depth: int, rate: float
) -> Float[Array, "depth 2 batch"]:
    """Draw what each residual branch of each sample is multiplied by.

    A branch of block l is left out with the probability p = rate l / (depth - 1), and divided by
    1 - p where it is kept, so that its mean is what it is without.

    Args:
        keys: one random key for each sample, which alone decides about its branches.
        depth: number of blocks.
        rate: probability p of the last block, in [0, 1); that of the first one is 0.

    Returns:
        ``[depth, 2, batch]``, 0 or 1 / (1 - p): first the attention's branch, then the MLP's. For
        ``VisionTransformer.__call__``.

    Raises:
        ValueError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the rate of stochastic depth must be in [0, 1), got {rate}")
    keep = jnp.asarray(1 - np.linspace(0, rate, depth), jnp.float32)[:, None]
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, (depth, 2)), out_axes=2)(keys)
    return jnp.where(kept, 1 / keep[:, :, None], 0.0)
