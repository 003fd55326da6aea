"""The U-Net's losses against float64, and its objective on a batch of the training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.unet import UNet, UNetNetwork
from sempart_jax.baselines.unet_objective import UNetObjective, soft_iou_loss
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.losses import cross_entropy
from sempart_jax.two_tricks.multiscale import crop_and_zoom, random_corners, teacher_target
from tests.baselines.test_unet import seeded

RNG = np.random.default_rng(0)
MASK, TARGET = RNG.uniform(0.05, 0.95, (2, 3, 6, 5))
EPS = 1e-3


def cross_entropy_reference(mask, target):
    value = -np.mean(target * np.log(mask) + (1 - target) * np.log(1 - mask))
    return value, (mask - target) / (mask * (1 - mask)) / mask.size


def soft_iou_reference(mask, target):
    values, gradient = [], np.zeros_like(mask)
    for index, (m, t) in enumerate(zip(mask, target, strict=True)):
        intersection, union = np.minimum(m, t).sum() + EPS, np.maximum(m, t).sum() + EPS
        values.append(1 - intersection / union)
        grows = np.where(m < t, 1 / union, -intersection / union**2)
        gradient[index] = -grows / len(mask)
    return np.mean(values), gradient


@pytest.mark.parametrize(
    ("loss", "reference"),
    [(cross_entropy, cross_entropy_reference), (soft_iou_loss, soft_iou_reference)],
)
def test_losses_and_gradients_are_those_in_float64(loss, reference):
    mask, target = jnp.asarray(MASK, jnp.float32), jnp.asarray(TARGET, jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=2)(mask, target, EPS)
    expected, expected_gradient = reference(MASK, TARGET)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("loss", [cross_entropy, soft_iou_loss])
def test_no_mask_is_better_than_a_soft_target_itself(loss):
    target = jnp.asarray(TARGET, jnp.float32)
    least = float(loss(target, target))
    for other in (MASK, TARGET > 0.5, np.clip(TARGET + 0.02, 0, 1), TARGET - 0.02):
        assert float(loss(jnp.asarray(other, jnp.float32), target)) > least + 1e-5


def test_masks_at_the_ends_give_finite_losses():
    empty, full = jnp.zeros((1, 4, 4)), jnp.ones((1, 4, 4))
    assert float(soft_iou_loss(empty, empty)) == 0
    assert float(soft_iou_loss(full, empty)) == pytest.approx(1)
    assert float(cross_entropy(full, full)) == pytest.approx(0, abs=1e-5)
    assert float(cross_entropy(full, empty)) == pytest.approx(-np.log(1e-6), rel=1e-2)


@pytest.fixture(scope="module")
def small():
    network = UNetNetwork(UNet(channels=1), radius=2, filter_eps=1e-2)
    image = jnp.asarray(RNG.uniform(size=(3, 16, 32, 3)), jnp.float32)
    mask = jnp.asarray(RNG.uniform(size=(3, 16, 32)), jnp.float32)
    return network, seeded(network), Examples(image, mask)


KEYS = jax.random.split(jax.random.key(4), 3)


def evaluate(objective, network, variables, examples):
    return jax.jit(
        lambda variables: objective.evaluate(
            network, {}, variables, examples, keys=KEYS, step=jnp.zeros((), int)
        )
    )(variables)


def test_the_total_is_the_weighted_sum_of_the_terms(small):
    network, variables, examples = small
    objective = UNetObjective(2.0, 3.0, 5.0, crop_fraction=0.5)
    total, terms, student = evaluate(objective, network, variables, examples)
    predict = jax.jit(lambda image: network.predict({}, variables, image, train=True))
    whole = predict(examples.image)
    np.testing.assert_allclose(student.fine, whole.fine, atol=1e-6)
    # The teacher moves no running average.
    for ours, without in zip(
        *map(jax.tree.leaves, (student.batch_stats, whole.batch_stats)), strict=True
    ):
        np.testing.assert_allclose(ours, without, atol=1e-6)
    corners = random_corners(KEYS, 16, 32, 8, 16)
    zoomed = crop_and_zoom(examples.image, corners, 8, 16)
    target = teacher_target(zoomed, predict(zoomed).fine, radius=2, filter_eps=1e-2)
    expected = {
        "cross_entropy": cross_entropy(whole.fine[..., 0], examples.mask),
        "iou": soft_iou_loss(whole.fine[..., 0], examples.mask),
        "equivariance": jnp.mean((crop_and_zoom(whole.fine, corners, 8, 16) - target) ** 2),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(value) > 1e-4
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)
    weighted = 2 * terms["cross_entropy"] + 3 * terms["iou"] + 5 * terms["equivariance"]
    np.testing.assert_allclose(total, weighted, rtol=1e-6)


def test_the_second_trick_can_be_left_out(small):
    objective = UNetObjective(crop_fraction=None)
    assert evaluate(objective, *small).terms.keys() == {"cross_entropy", "iou"}


def test_it_needs_masks(small):
    network, variables, examples = small
    assert UNetObjective.learns_from_masks
    with pytest.raises(ValueError, match="the examples have none"):
        evaluate(UNetObjective(), network, variables, Examples(examples.image))
