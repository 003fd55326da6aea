"""SelfMask's objective on a batch as the training step gives it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.selfmask_losses import selfmask_loss
from sempart_jax.baselines.selfmask_network import SelfMaskNetwork
from sempart_jax.baselines.selfmask_objective import SelfMaskObjective
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.vit import VisionTransformer


@pytest.fixture(scope="module")
def small():
    encoder = VisionTransformer(patch_size=4, width=16, depth=1, num_heads=2)
    network = SelfMaskNetwork(MaskFormer(encoder, num_queries=3, num_layers=2))
    variables = network.init(jax.random.key(0), {}, 16)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(size=(3, 16, 16, 3)), jnp.float32)
    mask = np.zeros((3, 16, 16), np.float32)
    mask[0, 4:12, 2:9] = 1.0
    # Grey levels, as resizing leaves them: foreground above the middle.
    mask[1, 3:5] = 0.6
    mask[1, 8:] = 0.4
    return network, variables, Examples(image, jnp.asarray(mask))


def evaluate(objective, network, variables, examples):
    return jax.jit(
        lambda variables: objective.evaluate(
            network, {}, variables, examples, keys=jnp.zeros(3), step=jnp.zeros((), int)
        )
    )(variables)


def test_the_target_is_the_pseudo_mask_above_the_middle(small):
    network, variables, examples = small
    objective = SelfMaskObjective(ranking_weight=3.0, unmatched_weight=0.25)
    total, terms, student = evaluate(objective, network, variables, examples)
    outputs = jax.jit(network.outputs)(variables, examples.image)
    target = (np.asarray(examples.mask) > 0.5).astype(np.float32)
    expected = jax.jit(selfmask_loss, static_argnums=3)(
        outputs["masks"], outputs["objectness"], jnp.asarray(target), 0.25
    )
    for name in ("dice", "ranking"):
        np.testing.assert_allclose(terms[name], expected[name], rtol=1e-5)
    np.testing.assert_allclose(total, terms["dice"] + 3.0 * terms["ranking"], rtol=1e-6)
    predicted = jax.jit(network.predict)({}, variables, examples.image)
    np.testing.assert_allclose(student.fine, predicted.fine, atol=1e-6)


def test_an_image_without_a_pseudo_mask_counts_nothing(small):
    network, variables, examples = small
    empty = Examples(examples.image, jnp.zeros_like(examples.mask))
    assert float(evaluate(SelfMaskObjective(), network, variables, empty).total) == 0


def test_it_needs_masks(small):
    network, variables, examples = small
    assert SelfMaskObjective.learns_from_masks
    with pytest.raises(ValueError, match="the examples have none"):
        evaluate(SelfMaskObjective(), network, variables, Examples(examples.image))
