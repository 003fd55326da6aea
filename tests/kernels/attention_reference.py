"""Attention of all heads and its gradient in float64 NumPy."""

import jax.numpy as jnp
import numpy as np

HEADS, WIDTH = 2, 5


def random_inputs(queries, keys=None, batch=2, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    keys = queries if keys is None else keys
    return [
        jnp.asarray(1.5 * rng.normal(size=(batch, length, HEADS, WIDTH)), dtype)
        for length in (queries, keys, keys)
    ]


def softmax(scores):
    exponential = np.exp(scores - scores.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


def reference_attention(query, key, value):
    """Return weights and mixed values of all heads in float64."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    weights = softmax(np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1]))
    return weights, np.einsum("bhqk,bkhd->bqhd", weights, value)


def reference_gradient(query, key, value, cotangent):
    """Pull a cotangent of the mixed values back to query, key and value, in float64."""
    weights, _ = reference_attention(query, key, value)
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    to_weights = np.einsum("bqhd,bkhd->bhqk", cotangent, value)
    # ds = w (dw - <w, dw>)
    to_scores = weights * (to_weights - np.sum(weights * to_weights, -1, keepdims=True))
    to_scores /= np.sqrt(query.shape[-1])
    return (
        np.einsum("bhqk,bkhd->bqhd", to_scores, key),
        np.einsum("bhqk,bqhd->bkhd", to_scores, query),
        np.einsum("bhqk,bqhd->bkhd", weights, cotangent),
    )
