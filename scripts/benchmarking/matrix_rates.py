"""How fast the device multiplies large square matrices: what a network's rate is held against."""

import jax
import jax.numpy as jnp
from jax import lax

from .paired import quartiles
from .timing import time_calls

PRECISIONS = {
    "bfloat16": (jnp.bfloat16, None),
    "float32": (jnp.float32, None),
    "float32, highest precision": (jnp.float32, lax.Precision.HIGHEST),
}
"""Type and precision by name. Without a precision JAX takes its own, TF32 on NVIDIA's cards."""

PRODUCTS = 10
"""Products a call, each of the result of the one before."""


def measure_rate(*, name: str, size: int, samples: int) -> float:
    """Return the median rate of products of matrices of normal numbers, in operations a second.

    Args:
        name: one of :data:`PRECISIONS`.
        size: rows and columns of each matrix.
        samples: how many are measured.
    """
    dtype, precision = PRECISIONS[name]
    left, right = (
        jax.random.normal(key, (size, size), jnp.float32)
        for key in jax.random.split(jax.random.key(0))
    )

    @jax.jit
    def products(left: jax.Array, right: jax.Array) -> jax.Array:
        def again(_: int, product: jax.Array) -> jax.Array:
            return jnp.matmul(product, right, precision=precision)

        return lax.fori_loop(0, PRODUCTS, again, left)

    # Divided so that the numbers keep their size from product to product.
    arguments = (left.astype(dtype), (right * size**-0.5).astype(dtype))
    seconds = quartiles(time_calls(lambda: products(*arguments), samples)).median
    return 2 * size**3 * PRODUCTS / seconds
