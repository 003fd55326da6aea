"""cuDNN's attention: what it is asked for, where it is taken, and what happens where it fails."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels import attention, cudnn_attention
from sempart_jax.kernels.attention import attend, attend_by_head, attend_by_rows
from sempart_jax.kernels.cudnn_attention import attend_by_cudnn, cudnn_attends
from tests.kernels.attention_reference import (
    random_inputs,
    reference_attention,
    reference_gradient,
)


def tried(tokens, heads, width):
    return cudnn_attends(tokens, tokens, heads, width, jnp.bfloat16, reference=attend_by_rows)


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU; attention is traced anew on it, and again after it."""

    def forget():
        jax.clear_caches()
        cudnn_attends.cache_clear()

    forget()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    forget()


@pytest.fixture
def cudnn_by_xla(monkeypatch):
    """Let XLA compute what cuDNN is asked for: JAX offers both for the same call."""
    take = jax.nn.dot_product_attention

    def by_xla(*inputs, implementation, **lengths):
        assert implementation == "cudnn"
        return take(*inputs, **lengths, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)


# cuDNN's gradient takes even lengths alone.
@pytest.mark.usefixtures("cudnn_by_xla")
@pytest.mark.parametrize(("queries", "keys"), [(8, 8), (9, 9), (9, 4), (8, 13)])
def test_what_cudnn_is_asked_for_is_this_attention(queries, keys):
    inputs = random_inputs(queries, keys)
    cotangent = np.random.default_rng(1).normal(size=inputs[0].shape).astype(np.float32)
    np.testing.assert_allclose(
        attend_by_cudnn(*inputs), reference_attention(*inputs)[1], atol=1e-5, rtol=0
    )
    mixed, pull = jax.vjp(attend_by_cudnn, *inputs)
    np.testing.assert_allclose(mixed, reference_attention(*inputs)[1], atol=1e-5, rtol=0)
    expected = reference_gradient(*inputs, cotangent)
    for ours, theirs in zip(pull(jnp.asarray(cotangent)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=0)


def lowered_for_cuda(function, *shape, dtype=jnp.bfloat16):
    shape = jax.ShapeDtypeStruct(shape, dtype)
    traced = jax.jit(function).trace(shape, shape, shape)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


# 224 and 320 pixels, patches of 16 and 8, and a class token
@pytest.mark.parametrize("tokens", [197, 401, 785, 1601])
def test_jax_lowers_cudnn_for_the_lengths_of_vision_transformers(monkeypatch, tokens):
    # JAX asks for a card and a library that the machine of the tests has not.
    cudnn = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91100)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)

    def total(*inputs):
        return jnp.sum(attend_by_cudnn(*inputs).astype(jnp.float32))

    forward = lowered_for_cuda(attend_by_cudnn, 2, tokens, 6, 64)
    assert "__cudnn$fmhaSoftmax" in forward
    assert "stablehlo.pad" not in forward
    assert "__cudnn$fmhaSoftmaxBackward" in lowered_for_cuda(
        jax.grad(total, argnums=(0, 1, 2)), 2, tokens, 6, 64
    )


@pytest.mark.usefixtures("gpu", "cudnn_by_xla")
def test_a_gpu_takes_cudnn_for_16_bits_and_never_into_a_program_for_other_machines(monkeypatch):
    # A sine is what no other way to attend has in its program.
    take = attention.attend_by_cudnn
    for module in (attention, cudnn_attention):
        monkeypatch.setattr(module, "attend_by_cudnn", lambda *x: take(*x) + 0 * jnp.sin(x[0]))
    assert tried(41, 6, 64)
    assert "stablehlo.sine" in lowered_for_cuda(attend, 2, 41, 6, 64)
    assert "stablehlo.sine" not in lowered_for_cuda(attend, 2, 41, 6, 64, dtype=jnp.float32)
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, 41, 6, 64), jnp.bfloat16)
    exported = jax.export.export(attend, platforms=["cuda"])(shape, shape, shape)
    assert "stablehlo.sine" not in exported.mlir_module()


@pytest.mark.usefixtures("gpu")
def test_xla_attends_where_cudnn_refuses_and_it_is_said_once(caplog):
    inputs = random_inputs(9, dtype=jnp.bfloat16)
    with caplog.at_level(logging.WARNING, logger="absl"):
        mixed = attend(*inputs)
        attend(*(jnp.concatenate([x, x]) for x in inputs))
    np.testing.assert_array_equal(mixed, jax.jit(attend_by_head)(*inputs))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "fused attention of 9 x 9 tokens, 2 heads of 5 channels, bfloat16, is of no use" in said
    assert "cuDNN is not detected" in said


@pytest.mark.usefixtures("gpu", "cudnn_by_xla")
def test_xla_attends_where_cudnn_gives_another_gradient(monkeypatch, caplog):
    @jax.custom_vjp
    def wrong_gradient(query, key, value):
        return attend_by_rows(query, key, value)

    wrong_gradient.defvjp(
        lambda *inputs: (attend_by_rows(*inputs), inputs),
        lambda inputs, cotangent: tuple(jnp.zeros_like(x) for x in inputs),
    )
    monkeypatch.setattr(cudnn_attention, "attend_by_cudnn", wrong_gradient)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert not tried(9, 2, 8)
    assert "differs from XLA's by" in caplog.text


def test_nothing_is_tried_without_a_gpu(monkeypatch):
    def fail(*inputs):
        raise AssertionError("cuDNN was asked")

    monkeypatch.setattr(cudnn_attention, "attend_by_cudnn", fail)
    assert not tried(8, 3, 64)
