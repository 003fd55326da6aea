"""The decoder's loss against NumPy, its phases and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sempart_jax.baselines.found_loss import decoder_loss


def cross_entropy(logits, target):
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return -np.mean(np.where(target, np.log(probability), np.log1p(-probability)))


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(2, 4, 5)).astype(np.float32)
    masks = rng.random((2, 2, 4, 5)) < 0.5
    return jnp.asarray(logits), jnp.asarray(masks[0]), jnp.asarray(masks[1])


@pytest.mark.parametrize("step", [0, 99, 100, 5000])
def test_against_numpy(arrays, step):
    logits, refined, complement = arrays
    total, terms = jax.jit(decoder_loss)(logits, refined, complement, jnp.int32(step))
    expected = {
        "refinement": cross_entropy(logits, refined),
        "background": cross_entropy(logits, complement) if step < 100 else 0.0,
        "self": cross_entropy(logits, logits > 0) if step >= 100 else 0.0,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5)
    np.testing.assert_allclose(
        total,
        1.5 * expected["refinement"] + expected["background"] + 4.0 * expected["self"],
        rtol=1e-5,
    )
    assert total.dtype == jnp.float32


def test_weights_and_phase_can_be_chosen(arrays):
    logits, refined, complement = arrays

    def total(step):
        return decoder_loss(
            *arrays, jnp.int32(step), background_steps=3, refinement_weight=0.5, self_weight=2.0
        )[0]

    refinement = 0.5 * cross_entropy(logits, refined)
    np.testing.assert_allclose(total(2), refinement + cross_entropy(logits, complement), rtol=1e-5)
    np.testing.assert_allclose(
        total(3), refinement + 2.0 * cross_entropy(logits, logits > 0), rtol=1e-5
    )


@pytest.mark.parametrize("step", [99, 100])
def test_gradient(arrays, step):
    logits, refined, complement = arrays

    @jax.jit
    def total(logits):
        return decoder_loss(logits, refined, complement, jnp.int32(step))[0]

    check_grads(total, (logits,), order=1, modes=("rev",), eps=1e-2, rtol=1e-2, atol=1e-4)
    # dL/dp = sum over terms of weight * (sigmoid(p) - target) / number of patches
    probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    other = complement if step < 100 else logits > 0
    weight = 1.0 if step < 100 else 4.0
    expected = 1.5 * (probability - refined) + weight * (probability - other)
    np.testing.assert_allclose(jax.grad(total)(logits), expected / logits.size, atol=1e-7)


def test_background_is_not_looked_at_in_the_second_phase(arrays):
    logits, refined, complement = arrays
    first, second = (
        decoder_loss(logits, refined, target, jnp.int32(100))
        for target in (complement, ~complement)
    )
    np.testing.assert_array_equal(first[0], second[0])


def test_large_logits_stay_finite():
    logits = jnp.array([[[-200.0, 200.0]]])
    wrong = jnp.array([[[True, False]]])
    for step in (0, 100):
        (total, _), gradient = jax.value_and_grad(decoder_loss, has_aux=True)(
            logits, wrong, wrong, jnp.int32(step)
        )
        assert np.isfinite(total)
        assert np.all(np.isfinite(gradient))


def test_both_phases_are_one_program(arrays):
    jitted = jax.jit(decoder_loss)
    for step in (0, 99, 100):
        jitted(*arrays, jnp.int32(step))
    assert jitted._cache_size() == 1
