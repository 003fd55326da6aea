"""FOUND's objective on a batch as the training step gives it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.found import background_mask
from sempart_jax.baselines.found_decoder import FoundDecoder
from sempart_jax.baselines.found_objective import FoundObjective
from sempart_jax.baselines.found_refinement import refine_patch_masks
from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks.objective_base import Examples
from sempart_jax.two_tricks.segmenter import Segmenter
from sempart_jax.two_tricks.vit import VisionTransformer


@pytest.fixture(scope="module")
def small():
    network = Segmenter(
        VisionTransformer(patch_size=4, width=16, depth=1, num_heads=2), FoundDecoder(patch_size=4)
    )
    pixels = np.full((3, 24, 24, 3), 40, np.uint8)
    pixels[0, 4:16, 8:20] = (200, 120, 90)
    pixels[1, 8:24, 2:12] = (120, 210, 90)
    pixels[2, :, :9] = (90, 60, 180)
    image = jnp.asarray(pixels, jnp.float32) / 255
    frozen = network.backbone.init(jax.random.key(0), normalize(image))["params"]
    return network, frozen, network.init(jax.random.key(1), frozen, 24), image, pixels


def cross_entropy(logits, target):
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0, logits) - target * logits))


@pytest.mark.parametrize("step", [0, 9, 10])
def test_terms_in_both_phases(small, step):
    network, frozen, variables, image, pixels = small
    objective = FoundObjective(tau=0.2, background_steps=10, refinement_weight=0.5, self_weight=3.0)
    total, terms, student = jax.jit(
        lambda step: objective.evaluate(
            network, frozen, variables, Examples(image), keys=jnp.zeros(3), step=step
        )
    )(jnp.asarray(step))
    features = network.backbone.apply({"params": frozen}, normalize(image), class_attention=True)
    background = background_mask(features["keys"], features["class_attention"], 0.2)
    logits = variables["params"]["projection"]
    logits = (features["keys"] @ logits["kernel"])[..., 0] + logits["bias"][0]
    own = np.asarray(logits) > 0
    expected = {
        "refinement": cross_entropy(logits, refine_patch_masks(pixels, own)),
        "background": cross_entropy(logits, refine_patch_masks(pixels, ~np.asarray(background))),
        "self": cross_entropy(logits, own),
    }
    expected["self" if step < 10 else "background"] = 0.0
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(
        total,
        0.5 * expected["refinement"] + expected["background"] + 3 * expected["self"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        student.coarse[..., 0], 1 / (1 + np.exp(-np.asarray(logits))), rtol=1e-5
    )
    assert student.fine.shape == (3, 24, 24, 1)


def test_the_decoder_alone_is_trained(small):
    network, frozen, variables, image, _ = small

    def total(frozen, variables):
        return (
            FoundObjective()
            .evaluate(
                network, frozen, variables, Examples(image), keys=jnp.zeros(3), step=jnp.asarray(0)
            )
            .total
        )

    frozen_gradient, gradient = jax.jit(jax.grad(total, (0, 1)))(frozen, variables)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen_gradient))
    assert np.any(gradient["params"]["projection"]["kernel"])
