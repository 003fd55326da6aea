"""Softmax attention that never holds the weights of all tokens for all tokens.

At 1,280 pixels and patch 8 they are 2.6 GB in float32 for each head. Every row of them is exact:
the softmax is taken over whole rows, a block of rows at a time, and training computes a block again
instead of keeping it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from sempart_jax.kernels.cudnn_attention import attend_by_cudnn, cudnn_attends

ROWS_OF_A_HEAD = 1024
"""Most queries at a time where one head is computed alone, on a CPU. With half as many, 800 to
1,600 tokens take 1.2 times the time."""
KEPT_ROWS_OF_A_HEAD = 512
"""Most queries of a head whose weights are kept for the gradient, on a CPU. To compute them again
takes longer for 400 tokens, and two thirds of the time for 800."""
SCORES_OF_AN_IMAGE = 2**26
"""Most scores of an image at a time where all heads are computed together, 256 MiB in float32."""


@jax.jit
def attend(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
) -> Float[Array, "B N heads d"]:
    """Compute softmax(q kᵀ / √d) v of each head.

    The products of matrices take and give the type of the inputs, the softmax is float32. Memory
    grows with N + M, in training too. A CPU takes one head of one image after the other. An NVIDIA
    GPU takes cuDNN's fused kernel for inputs of 16 bits, where cuDNN has one. What else there is
    takes all heads together, whole up to some 3,000 tokens of six heads.

    Args:
        query: ``[B, N, heads, d]``.
        key: ``[B, M, heads, d]``, of the same type.
        value: ``[B, M, heads, d]``, of the same type.

    Returns:
        ``[B, N, heads, d]`` of the type of the inputs.
    """
    fused = {"cuda": attend_by_cudnn} if _fused_on_this_machine(query, key) else {}
    return lax.platform_dependent(
        query, key, value, cpu=attend_by_head, default=attend_by_rows, **fused
    )


def _fused_on_this_machine(query: Array, key: Array) -> bool:
    # A program for other machines cannot hold cuDNN's calls; exported ones have a symbolic batch.
    return isinstance(query.shape[0], int) and cudnn_attends(
        query.shape[1], key.shape[1], *query.shape[2:], query.dtype, reference=attend_by_rows
    )


def attend_by_head(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
    rows: int = ROWS_OF_A_HEAD,
    kept: int = KEPT_ROWS_OF_A_HEAD,
) -> Float[Array, "B N heads d"]:
    """Compute :func:`attend` head by head and image by image, ``rows`` queries at a time.

    The weights of a block stay in the cache between the two products and the softmax. On two CPU
    cores, six heads, this takes 0.4 to 1.0 of the time of all heads at once from 200 tokens on.
    """
    batch, tokens, heads, width = query.shape

    def of_head(inputs: tuple[Array, Array, Array]) -> Array:
        query, key, value = inputs

        def of_rows(query: Array) -> Array:
            scores = jnp.matmul(query, key.T, preferred_element_type=jnp.float32)
            return jnp.matmul(_weights(scores, width).astype(value.dtype), value)

        return _map_rows(of_rows, query, rows, kept)

    def by_head(x: Array) -> Array:
        return jnp.moveaxis(x, 2, 1).reshape(batch * heads, x.shape[1], width)

    mixed = lax.map(of_head, (by_head(query), by_head(key), by_head(value)))
    return jnp.moveaxis(mixed.reshape(batch, heads, tokens, width), 1, 2)


def attend_by_rows(
    query: Float[Array, "B N heads d"],
    key: Float[Array, "B M heads d"],
    value: Float[Array, "B M heads d"],
    scores_of_an_image: int = SCORES_OF_AN_IMAGE,
) -> Float[Array, "B N heads d"]:
    """Compute :func:`attend` for all heads and images together, in blocks where there are many.

    At most ``scores_of_an_image`` scores of an image are held at a time, or those of one query.
    """
    heads, width = query.shape[2:]

    def of_rows(query: Array) -> Array:
        scores = jnp.einsum("qbhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        return jnp.einsum("bhqk,bkhd->qbhd", _weights(scores, width).astype(value.dtype), value)

    by_query = jnp.moveaxis(query, 1, 0)
    rows = max(1, scores_of_an_image // (heads * key.shape[1]))
    return jnp.moveaxis(_map_rows(of_rows, by_query, rows), 0, 1)


def attention_of_first(
    query: Float[Array, "B N heads d"], key: Float[Array, "B M heads d"]
) -> Float[Array, "B heads M"]:
    """Compute the attention of the first token to all: softmax(q₁ kᵀ / √d), float32."""
    scores = jnp.einsum("bhd,bkhd->bhk", query[:, 0], key, preferred_element_type=jnp.float32)
    return _weights(scores, query.shape[-1])


def _weights(scores: Array, width: int) -> Array:
    return jax.nn.softmax(scores * width**-0.5, axis=-1)


def _map_rows(
    function: Callable[[Array], Array], query: Array, rows: int, kept: int | None = None
) -> Array:
    """Apply a function to blocks of the leading axis.

    Of several blocks, and of one longer than ``kept``, nothing is kept for the gradient.
    """
    tokens = query.shape[0]
    again = jax.checkpoint(function, prevent_cse=False)
    if tokens <= rows:
        return function(query) if kept is None or tokens <= kept else again(query)
    blocks = -(-tokens // rows)
    size = -(-tokens // blocks)
    # Queries that fill up the last block are cut off again.
    filled = jnp.pad(query, ((0, blocks * size - tokens), *[(0, 0)] * (query.ndim - 1)))
    mixed = lax.map(again, filled.reshape(blocks, size, *query.shape[1:]))
    return mixed.reshape(filled.shape)[:tokens]
