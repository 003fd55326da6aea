"""DINO's head against float64, and what its norms promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import erf

from sempart_jax.networks.projection_head import ProjectionHead

WIDTH, OUTPUTS = 12, 20


def small_head(dtype=jnp.float32) -> ProjectionHead:
    return ProjectionHead(OUTPUTS, hidden=32, bottleneck=8, dtype=dtype)


@pytest.fixture(scope="module")
def start():
    head = small_head()
    params = jax.jit(head.init)(jax.random.key(0), jnp.zeros((1, WIDTH)))["params"]
    rng = np.random.default_rng(0)
    # Larger than drawn, and with biases, so that no term of the reference is lost in another.
    params = jax.tree.map(
        lambda x: jnp.asarray(x + 0.3 * rng.standard_normal(x.shape), jnp.float32), params
    )
    return params, jnp.asarray(rng.standard_normal((5, WIDTH)), jnp.float32)


def reference(params, tokens) -> np.ndarray:
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = np.asarray(tokens, np.float64)
    for name in ("hidden_0", "hidden_1"):
        x = x @ params[name]["kernel"] + params[name]["bias"]
        x = x * (1 + erf(x / np.sqrt(2))) / 2
    x = x @ params["bottleneck"]["kernel"] + params["bottleneck"]["bias"]
    logits = np.empty((len(x), OUTPUTS))
    for row, vector in enumerate(x):
        for k, prototype in enumerate(params["last_layer"]["kernel"].T):
            cosine = vector @ prototype / np.linalg.norm(vector) / np.linalg.norm(prototype)
            logits[row, k] = cosine
    return logits


def test_agrees_with_float64(start):
    params, tokens = start
    logits = jax.jit(small_head().apply)({"params": params}, tokens)
    expected = reference(params, tokens)
    assert logits.dtype == jnp.float32
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, atol=2e-6, rtol=0)


def test_length_of_the_last_layers_vectors_is_no_gain(start):
    params, tokens = start
    stretched = {"kernel": params["last_layer"]["kernel"] * jnp.linspace(0.1, 9, OUTPUTS)[None]}
    apply = jax.jit(small_head().apply)
    np.testing.assert_allclose(
        apply({"params": params | {"last_layer": stretched}}, tokens),
        apply({"params": params}, tokens),
        atol=1e-6,
    )


def test_bfloat16_products_give_float32_close_by(start):
    params, tokens = start
    with jax.numpy_dtype_promotion("strict"):
        logits = jax.jit(small_head(jnp.bfloat16).apply)({"params": params}, tokens)
    assert logits.dtype == jnp.float32
    error = np.abs(logits - reference(params, tokens)).max()
    assert 1e-4 < error < 0.05
    # A result that was rounded to bfloat16 on its way would be one of few values.
    assert np.any(np.asarray(logits) != np.asarray(logits.astype(jnp.bfloat16), np.float32))


def test_gradient_agrees_with_finite_differences(start):
    params, tokens = start

    def mean(params):
        return jnp.mean(small_head().apply({"params": params}, tokens) ** 3)

    check_grads(jax.jit(mean), (params,), order=1, modes=["rev"], eps=1e-2, rtol=1e-2)


def test_a_zero_vector_has_finite_gradients(start):
    params, tokens = start
    params = params | {"bottleneck": jax.tree.map(jnp.zeros_like, params["bottleneck"])}
    gradient = jax.jit(
        jax.grad(lambda params: small_head().apply({"params": params}, tokens).sum())
    )(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_first_parameters():
    head = ProjectionHead(300)
    params = jax.jit(head.init)(jax.random.key(1), jnp.zeros((1, 192)))["params"]
    assert jax.tree.map(jnp.shape, params) == {
        "hidden_0": {"kernel": (192, 2048), "bias": (2048,)},
        "hidden_1": {"kernel": (2048, 2048), "bias": (2048,)},
        "bottleneck": {"kernel": (2048, 256), "bias": (256,)},
        "last_layer": {"kernel": (256, 300)},
    }
    for name in ("hidden_0", "hidden_1", "bottleneck"):
        assert 0.019 < params[name]["kernel"].std() < 0.021
        assert not params[name]["bias"].any()
    # +-1/16, as PyTorch's linear layer starts: its lengths set how fast the directions turn
    assert 0.99 / 16 < np.abs(params["last_layer"]["kernel"]).max() <= 1 / 16
