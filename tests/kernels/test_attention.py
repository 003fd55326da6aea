"""Attention in blocks against softmax over all of it in float64, gradients, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels.attention import (
    SCORES_OF_AN_IMAGE,
    attend,
    attend_by_head,
    attend_by_rows,
    attention_of_first,
)
from tests.kernels.attention_reference import (
    HEADS,
    random_inputs,
    reference_attention,
    reference_gradient,
)

WAYS = {
    "as the platform takes it": attend,
    "by head, whole": lambda *x: attend_by_head(*x, rows=1000),
    "by head, whole, computed again": lambda *x: attend_by_head(*x, rows=1000, kept=1),
    "by head, 4 rows": lambda *x: attend_by_head(*x, rows=4),
    "by head, 1 row": lambda *x: attend_by_head(*x, rows=1),
    "by rows, whole": attend_by_rows,
    "by rows, some": lambda *x: attend_by_rows(*x, scores_of_an_image=4 * HEADS * x[1].shape[1]),
    "by rows, one": lambda *x: attend_by_rows(*x, scores_of_an_image=1),
}


# The lengths divide into no blocks of 4 rows, into some, and into blocks of fewer.
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 9), (8, 8), (9, 4), (13, 13)])
@pytest.mark.parametrize("way", WAYS)
def test_equals_the_softmax_over_all_keys_in_value_and_gradient(way, queries, keys):
    inputs = random_inputs(queries, keys)
    cotangent = np.random.default_rng(1).normal(size=inputs[0].shape)

    @jax.jit
    def pulled(*inputs):
        mixed, pull = jax.vjp(WAYS[way], *inputs)
        return mixed, pull(jnp.asarray(cotangent, jnp.float32))

    mixed, gradients = pulled(*inputs)
    np.testing.assert_allclose(mixed, reference_attention(*inputs)[1], atol=1e-5, rtol=0)
    expected = reference_gradient(*inputs, cotangent)
    for name, ours, theirs in zip(("query", "key", "value"), gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_large_scores_give_neither_infinity_nor_nan(way):
    query, key, value = random_inputs(9)
    mixed = WAYS[way](300 * query, 300 * key, value)
    expected = reference_attention(300 * query, 300 * key, value)[1]
    np.testing.assert_allclose(mixed, expected, atol=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_narrow_inputs_keep_their_type_and_have_a_wide_softmax(way):
    query, key, value = random_inputs(9, dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        mixed = WAYS[way](query, key, jnp.ones_like(value))
    assert mixed.dtype == jnp.bfloat16
    np.testing.assert_allclose(mixed.astype(jnp.float32), 1.0, atol=0.02)
    # Scores of 80 and 80.125 would be one number in bfloat16.
    query = jnp.asarray([8.0, 0.125], jnp.bfloat16).reshape(1, 1, 1, 2)
    key = jnp.asarray([[10.0, 0.0], [10.0, 1.0]], jnp.bfloat16).reshape(1, 2, 1, 2)
    value = jnp.asarray([[0.0, 1.0], [1.0, 0.0]], jnp.bfloat16).reshape(1, 2, 1, 2)
    share = 1 / (1 + np.exp(-0.125 / np.sqrt(2)))
    mixed = WAYS[way](query, key, value).astype(jnp.float32)
    np.testing.assert_allclose(mixed.ravel(), [share, 1 - share], atol=4e-3)


def test_attention_of_the_first_is_the_first_row():
    query, key, value = random_inputs(9, 12)
    weights, _ = reference_attention(query, key, value)
    np.testing.assert_allclose(attention_of_first(query, key), weights[:, :, 0], atol=1e-6, rtol=0)


def test_vmap_and_devices_give_the_same():
    query, key, value = random_inputs(600, batch=4)
    together = attend(query, key, value)
    mapped = jax.vmap(lambda *x: attend(*(y[None] for y in x))[0])(query, key, value)
    np.testing.assert_allclose(mapped, together, atol=1e-5)
    spread = jax.pmap(lambda *x: attend(*(y[None] for y in x))[0])(query, key, value)
    np.testing.assert_allclose(spread, together, atol=1e-5)


@pytest.mark.parametrize("function", [attend, attend_by_head, attend_by_rows])
def test_memory_grows_with_the_tokens_and_not_with_their_square(function):
    def temporary_bytes(tokens, scores):
        # Rows of six heads of ViT-S; blocks of a sixteenth of all rows of the smaller image.
        shape = jax.ShapeDtypeStruct((1, tokens, 6, 64), jnp.float32)
        options = {"scores_of_an_image": scores} if function is attend_by_rows else {}

        def total(*inputs):
            return jnp.sum(function(*inputs, **options) ** 2)

        step = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
        return step.lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

    scores = 6 * 1601 * 100
    assert temporary_bytes(6401, scores) < 5 * temporary_bytes(1601, scores)


def test_an_accelerator_takes_rows_only_where_there_are_too_many_scores():
    # XLA compiles whole attention there into large products; a loop would be in its way.
    def loops(platform, tokens):
        shape = jax.ShapeDtypeStruct((1, tokens, 6, 64), jnp.bfloat16)
        lowered = jax.export.export(attend, platforms=[platform])(shape, shape, shape)
        return "stablehlo.while" in lowered.mlir_module()

    assert 6 * 1601**2 < SCORES_OF_AN_IMAGE < 6 * 6401**2
    for platform in ("cuda", "tpu"):
        assert not loops(platform, 1601)
        assert loops(platform, 6401)
    assert loops("cpu", 1601)
