"""Softmax attention by the fused kernel of cuDNN, where this machine has it and it is right."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

TOLERANCE = 0.03
"""Largest difference from another way to attend that 16 bits explain, as a part of its norm:
bfloat16 rounds by 0.004 at most, in a few places."""

Attention = Callable[[Array, Array, Array], Array]


@jax.custom_vjp
def attend_by_cudnn(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
) -> Float[Array, "B N heads d"]:
    """Compute softmax(q kᵀ / √d) v of each head, for 16 bits on an NVIDIA GPU.

    Raises:
        NotImplementedError: cuDNN has no kernel for these shapes or types.
        RuntimeError: there is no cuDNN, or it does not compile this.
    """
    return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")


def _attend_at_even_length(query: Array, key: Array, value: Array) -> Array:
    """Compute the same with a token more that takes no part, where their number is odd.

    JAX refuses cuDNN's gradient of odd lengths; class token and patches are odd nearly always.
    """
    queries, keys = query.shape[1], key.shape[1]
    own: tuple[Array | None, Array | None] = (None, None)
    if queries % 2 or keys % 2:
        query, key, value = (
            jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (query, key, value)
        )
        own = (jnp.full(len(query), queries), jnp.full(len(query), keys))
    mixed = jax.nn.dot_product_attention(
        *(query, key, value),
        query_seq_lengths=own[0],
        key_value_seq_lengths=own[1],
        implementation="cudnn",
    )
    return mixed[:, :queries]


attend_by_cudnn.defvjp(
    lambda query, key, value: jax.vjp(_attend_at_even_length, query, key, value),
    lambda pull, cotangent: pull(cotangent),
)


@functools.cache
def cudnn_attends(
    queries: int, keys: int, heads: int, width: int, dtype: DTypeLike, *, reference: Attention
) -> bool:
    """Try whether cuDNN has fused attention of these sizes on this machine, with its gradient.

    What it takes differs between its versions and cards, and some of it shows only when a program
    runs; so it attends over one made-up image, and is compared with ``reference``. Where it
    refuses or differs, that is logged.
    """
    if jax.default_backend() != "gpu" or jnp.dtype(dtype).itemsize != 2:
        return False
    rng = np.random.default_rng(0)
    *inputs, cotangent = (
        rng.normal(size=(1, length, heads, width)).astype(dtype)
        for length in (queries, keys, keys, queries)
    )

    def compute(attention: Attention) -> list[np.ndarray]:
        def pulled(*inputs: Array) -> tuple[Array, ...]:
            mixed, pull = jax.vjp(attention, *inputs)
            return attention(*inputs), mixed, *pull(cotangent)

        # Compiled ahead, so that it runs now even where a program is being traced.
        results = jax.jit(pulled).lower(*inputs).compile()(*inputs)
        return [np.asarray(result, np.float32) for result in results]

    try:
        errors = [
            float(np.linalg.norm(fused - plain) / np.linalg.norm(plain))
            for fused, plain in zip(compute(attend_by_cudnn), compute(reference), strict=True)
        ]
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error)
    else:
        # Comparisons with NaN are false.
        if all(error < TOLERANCE for error in errors):
            return True
        reason = f"it differs from XLA's by {', '.join(f'{error:.1e}' for error in errors)}"
    logging.warning(
        "cuDNN's fused attention of %d x %d tokens, %d heads of %d channels, %s, is of no use "
        "here; XLA computes it, which takes more time: %s",
        *(queries, keys, heads, width, jnp.dtype(dtype).name, reason),
    )
    return False
