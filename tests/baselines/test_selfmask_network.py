"""SelfMask's network as training and prediction see it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.selfmask_network import SelfMaskNetwork
from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks.vit import VisionTransformer


@pytest.fixture(scope="module")
def small():
    encoder = VisionTransformer(patch_size=4, width=16, depth=1, num_heads=2)
    network = SelfMaskNetwork(MaskFormer(encoder, num_queries=5, num_layers=2), radius=2)
    variables = network.init(jax.random.key(0), {}, 16)
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16, 24, 3)), jnp.float32)
    return network, variables, image


def test_the_mask_is_that_of_the_query_it_trusts_most_after_the_last_layer(small):
    network, variables, image = small
    prediction = jax.jit(network.predict)({}, variables, image)
    outputs = jax.jit(network.mask_former.apply)({"params": variables["params"]}, normalize(image))
    best = np.argmax(outputs["objectness"][:, -1], axis=-1)
    logits = np.asarray(outputs["masks"])[np.arange(3), -1, best]
    np.testing.assert_allclose(prediction.coarse[..., 0], 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert prediction.coarse.shape == (3, 8, 12, 1)
    assert prediction.fine.shape == (3, 16, 24, 1)
    # Half-pixel centres: a pixel in the middle of four of the coarse mask is their weighted mean.
    corner = np.asarray(prediction.coarse)[:, :2, :2, 0]
    expected = np.einsum("bij,i,j->b", corner, [0.75, 0.25], [0.75, 0.25])
    np.testing.assert_allclose(prediction.fine[:, 1, 1, 0], expected, atol=1e-6)
    assert prediction.batch_stats == {}
    assert prediction.keys is None


def test_its_patch_is_the_encoders(small):
    network, variables, _ = small
    assert network.patch_size == 4
    assert variables["batch_stats"] == {}
    assert "encoder" in variables["params"]


def test_everything_is_trained(small):
    network, variables, image = small

    @jax.jit
    def gradient(params):
        return jax.grad(lambda params: network.predict({}, {"params": params}, image).fine.var())(
            params
        )

    encoder = gradient(variables["params"])["encoder"]
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(encoder["norm"]))
