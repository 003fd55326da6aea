"""The features of patches by choice, and what is projected out of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.two_tricks.features import patch_features, project_out
from sempart_jax.two_tricks.vit import VisionTransformer

VIT = VisionTransformer(4, 16, 2, 2, registers=2, layer_scale=True)


@pytest.fixture(scope="module")
def params():
    return jax.jit(VIT.init)(jax.random.key(0), jnp.zeros((1, 8, 12, 3)))["params"]


def test_the_chosen_features_are_those_of_patches(params):
    kinds = ("keys", "queries", "values", "tokens")

    @jax.jit
    def compute(params, image):
        chosen = {k: patch_features(VIT.clone(features=k), params, image)["keys"] for k in kinds}
        return VIT.apply({"params": params}, image), chosen

    output, chosen = compute(params, jax.random.normal(jax.random.key(1), (2, 8, 12, 3)))
    output["tokens"] = output["tokens"][:, 3:].reshape(2, 2, 3, 16)
    for kind in kinds:
        np.testing.assert_array_equal(chosen[kind], output[kind], err_msg=kind)


def test_position_bias_is_taken_out(params):
    image = jnp.zeros((1, 8, 12, 3))
    vits = VIT, VIT.clone(position_directions=6)
    # Of the blank image itself nothing is left that differs by place.
    plain, none = jax.jit(lambda p, x: [patch_features(vit, p, x)["keys"] for vit in vits])(
        params, image
    )
    assert np.ptp(np.asarray(plain), axis=(1, 2)).max() > 1e-3
    assert np.ptp(np.asarray(none), axis=(1, 2)).max() < 1e-5


def test_projection_against_float64():
    rng = np.random.default_rng(0)
    features, blank = rng.normal(size=(2, 3, 4, 8)), rng.normal(size=(1, 3, 4, 8))
    bias = blank.reshape(-1, 8) - blank.reshape(-1, 8).mean(axis=0)
    basis = np.linalg.svd(bias)[2][:2]
    expected = features - features @ basis.T @ basis
    ours = project_out(*(jnp.asarray(x, jnp.float32) for x in (features, blank)), 2)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
