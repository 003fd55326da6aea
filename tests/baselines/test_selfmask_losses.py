"""SelfMask's losses against loops in float64, and a network that learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.selfmask_losses import (
    dice_loss,
    ranking_loss,
    select_mask,
    selfmask_loss,
)
from sempart_jax.two_tricks.vit import VisionTransformer

loss = jax.jit(selfmask_loss)


def dice_reference(mask, target):
    return 1 - (2 * (mask * target).sum() + 1) / (mask.sum() + target.sum() + 1)


def ranking_reference(objectness, losses):
    order = sorted(range(len(losses)), key=lambda query: losses[query])
    return sum(
        max(0.0, objectness[worse] - objectness[better])
        for place, better in enumerate(order)
        for worse in order[place + 1 :]
    )


def enlarge(mask, height, width):
    """Bilinear at half-pixel centres, clamped at the edges, pixel by pixel."""
    out = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = np.clip((row + 0.5) * mask.shape[0] / height - 0.5, 0, mask.shape[0] - 1)
            x = np.clip((column + 0.5) * mask.shape[1] / width - 0.5, 0, mask.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, mask.shape[0] - 1), min(left + 1, mask.shape[1] - 1)
            fy, fx = y - top, x - left
            out[row, column] = (1 - fy) * ((1 - fx) * mask[top, left] + fx * mask[top, right]) + (
                fy * ((1 - fx) * mask[bottom, left] + fx * mask[bottom, right])
            )
    return out


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def reference(mask_logits, objectness_logits, target, unmatched_weight):
    dice_total = ranking_total = 0.0
    for image, layers in enumerate(mask_logits):
        if not target[image].any():
            continue
        for layer, logits in enumerate(layers):
            masks = [enlarge(sigmoid(each), *target.shape[1:]) for each in logits]
            losses = np.array([dice_reference(mask, target[image]) for mask in masks])
            weights = np.full(len(losses), unmatched_weight)
            weights[losses.argmin()] = 1
            dice_total += np.dot(weights, losses)
            ranking_total += ranking_reference(sigmoid(objectness_logits[image, layer]), losses)
    return {"dice": dice_total / len(target), "ranking": ranking_total / len(target)}


def draw(seed=0, batch=2, layers=2, queries=5, grid=(3, 4), size=(12, 8)):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0, 2, (batch, layers, queries, *grid)).astype(np.float32),
        rng.normal(0, 1, (batch, layers, queries)).astype(np.float32),
        (rng.random((batch, *size)) < 0.4).astype(np.float32),
    )


def assert_close(values, expected, rtol=1e-5):
    for name in ("dice", "ranking"):
        assert values[name].dtype == jnp.float32
        np.testing.assert_allclose(values[name], expected[name], rtol=rtol, atol=1e-6)


def test_dice_agrees_with_the_formula():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 4, 5, 6)).astype(np.float32)
    target = (rng.random((2, 5, 6)) < 0.5).astype(np.float32)
    ours = jax.jit(dice_loss)(masks, target)
    assert ours.shape == (2, 3, 4)
    for image, layer, query in np.ndindex(ours.shape):
        expected = dice_reference(masks[image, layer, query], target[image])
        np.testing.assert_allclose(ours[image, layer, query], expected, rtol=1e-5)


def test_dice_of_binary_masks():
    masks = jnp.array([[1.0, 1, 0, 0], [0, 0, 0, 0]]).reshape(1, 1, 2, 2, 2)
    masks = jnp.broadcast_to(masks, (3, *masks.shape[1:]))
    targets = jnp.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).reshape(3, 2, 2)
    of_full, of_empty = dice_loss(masks, targets)[:, 0].T
    np.testing.assert_allclose(of_full, [0, 1 - 1 / 5, 1 - 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(of_empty, [1 - 1 / 3, 1 - 1 / 3, 0], rtol=1e-6)


def test_ranking_agrees_with_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    objectness = rng.random((2, 3, 7)).astype(np.float32)
    losses = rng.random((2, 3, 7)).astype(np.float32)
    losses[0, 0, :4] = losses[0, 0, 5]
    ours = jax.jit(ranking_loss)(objectness, losses)
    expected = [
        [ranking_reference(*each) for each in zip(*rows, strict=True)]
        for rows in zip(objectness.astype(np.float64), losses, strict=True)
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_ranking_of_ordered_and_tied_queries():
    losses = jnp.array([0.1, 0.2, 0.9])
    assert ranking_loss(jnp.array([0.9, 0.5, 0.1]), losses) == 0
    # 0.4 of the first pair, 0.8 of the outer one, 0.4 of the last
    np.testing.assert_allclose(ranking_loss(jnp.array([0.1, 0.5, 0.9]), losses), 1.6, rtol=1e-6)
    # Of equal losses the first counts as better, and is below both others.
    np.testing.assert_allclose(
        ranking_loss(jnp.array([0.1, 0.5, 0.4]), jnp.full(3, 0.5)), 0.7, rtol=1e-6
    )


def test_gradient_of_the_ranking():
    objectness, losses = jnp.array([0.2, 0.6, 0.3]), jnp.array([0.1, 0.5, 0.9])
    gradients = jax.grad(ranking_loss, (0, 1))(objectness, losses)
    # Pairs in wrong order: 0 below 1, 0 below 2.
    np.testing.assert_array_equal(gradients[0], [-2, 1, 1])
    np.testing.assert_array_equal(gradients[1], 0)


@pytest.mark.parametrize("unmatched_weight", [1.0, 0.0, 0.3])
def test_loss_agrees_with_float64(unmatched_weight):
    inputs = draw(batch=3)
    inputs[2][1] = 0  # empty
    values = loss(*inputs, jnp.float32(unmatched_weight))
    assert_close(values, reference(*inputs, unmatched_weight))


@pytest.mark.parametrize(
    ("grid", "size"), [((4, 4), (4, 4)), ((5, 3), (7, 11)), ((6, 6), (4, 3)), ((1, 2), (9, 9))]
)
def test_loss_at_other_sizes(grid, size):
    inputs = draw(1, batch=1, queries=4, grid=grid, size=size)
    assert_close(loss(*inputs), reference(*inputs, 1.0))


def test_bfloat16_logits():
    masks, objectness, target = draw()
    half = [jnp.asarray(values, jnp.bfloat16) for values in (masks, objectness)]
    with jax.numpy_dtype_promotion("strict"):
        values = loss(*half, target)
    assert_close(values, loss(*(values.astype(jnp.float32) for values in half), target))


def test_order_of_queries_is_free():
    masks, objectness, target = draw()
    order = np.array([4, 2, 0, 1, 3])
    expected = loss(masks, objectness, target)
    assert_close(loss(masks[:, :, order], objectness[:, :, order], target), expected)


def both(inputs):
    def total(masks, objectness):
        values = selfmask_loss(masks, objectness, *inputs[2:])
        return values["dice"] + values["ranking"]

    inputs = [jnp.asarray(values) for values in inputs]
    return jax.jit(jax.value_and_grad(total, (0, 1)))(*inputs[:2])


def test_without_foreground_loss_and_gradient_are_zero():
    masks, objectness, target = draw()
    value, gradients = both((masks, objectness, np.zeros_like(target)))
    assert value == 0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_perfect_masks_cost_nothing():
    _, objectness, target = draw(grid=(12, 8))
    masks = np.broadcast_to(200 * target[:, None, None] - 100, (2, 2, 5, 12, 8))
    assert abs(loss(masks, objectness, target)["dice"]) < 1e-5
    # One query finds the object: the others are not asked.
    masks = np.full((2, 2, 5, 12, 8), -100, np.float32)
    masks[:, :, 3] = 200 * target[:, None] - 100
    assert abs(loss(masks, objectness, target, 0.0)["dice"]) < 1e-5
    assert loss(masks, objectness, target, 1.0)["dice"] > 2.5


def test_extreme_and_constant_masks_have_finite_gradients():
    _, objectness, target = draw()
    target[:] = 0
    target[:, 5, 4] = 1  # a single pixel
    for level in (-1e4, 0.0, 1e4):
        inputs = (np.full((2, 2, 5, 3, 4), level, np.float32), objectness, target)
        value, gradients = both(inputs)
        expected = reference(*(np.clip(values, -500, 500) for values in inputs[:2]), *inputs[2:], 1)
        np.testing.assert_allclose(value, expected["dice"] + expected["ranking"], rtol=1e-5)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradient_agrees_with_finite_differences():
    masks, objectness, target = map(jnp.asarray, draw(3, batch=1, queries=4))

    @jax.jit
    def total(masks, objectness):
        values = selfmask_loss(masks, objectness, target, 0.5)
        return values["dice"] + values["ranking"]

    check_grads(total, (masks, objectness), order=1, modes=["rev"], eps=1e-2, rtol=1e-2)


def test_masks_learn_from_dice_and_objectness_from_the_ranking():
    masks, objectness, target = map(jnp.asarray, draw())

    def term(name):
        def value(masks, objectness):
            return selfmask_loss(masks, objectness, target)[name]

        return jax.jit(jax.grad(value, (0, 1)))(masks, objectness)

    of_masks, of_objectness = term("dice")
    assert np.abs(of_masks).max() > 0
    assert not of_objectness.any()
    of_masks, of_objectness = term("ranking")
    assert not of_masks.any()
    assert np.abs(of_objectness).max() > 0


def test_full_size_needs_no_enlarged_masks():
    shapes = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (
            ((8, 6, 20, 56, 56), jnp.float32),
            ((8, 6, 20), jnp.float32),
            ((8, 224, 224), jnp.float32),
        )
    ]

    def total(masks, objectness, target):
        values = selfmask_loss(masks, objectness, target)
        return values["dice"] + values["ranking"]

    memory = jax.jit(jax.grad(total, (0, 1))).lower(*shapes).compile().memory_analysis()
    # Masks at 224 x 224 alone are 193 MB.
    assert memory.temp_size_in_bytes < 40e6


def test_selected_mask_is_that_of_the_highest_objectness():
    rng = np.random.default_rng(0)
    masks = rng.normal(0, 3, (3, 4, 5, 6)).astype(np.float32)
    objectness = np.array([[0, 2, 1, -1], [-5, -9, -4, -7], [1, 3, 3, 0]], np.float32)
    selected = jax.jit(select_mask)(masks, objectness)
    expected = [sigmoid(masks[image, query]) for image, query in enumerate((1, 2, 1))]
    np.testing.assert_allclose(selected, expected, rtol=1e-5)


def two_coloured_images():
    rng = np.random.default_rng(0)
    targets = np.zeros((4, 16, 16), np.float32)
    for target, (top, left) in zip(targets, ((0, 0), (4, 8), (8, 4), (8, 8)), strict=True):
        target[top : top + 8, left : left + 8] = 1
    colours = rng.normal(0, 1, (4, 2, 1, 1, 3)).astype(np.float32)
    images = np.where(targets[..., None] > 0, colours[:, 0], colours[:, 1])
    return jnp.asarray(images), jnp.asarray(targets)


@pytest.mark.slow
def test_a_small_network_learns_the_objects_of_four_images():
    images, targets = two_coloured_images()
    backbone = VisionTransformer(4, 32, 2, 2, trained_grid=4)
    model = MaskFormer(backbone, num_queries=5, num_layers=2, scale=4)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    # Five times this rate saturates the masks of an image at nothing, where no gradient is left.
    optimiser = optax.adamw(2e-4)

    def total(params):
        out = model.apply({"params": params}, images)
        values = selfmask_loss(out["masks"], out["objectness"], targets)
        return values["dice"] + values["ranking"], out

    @jax.jit
    def step(params, state):
        (_, out), gradient = jax.value_and_grad(total, has_aux=True)(params)
        updates, state = optimiser.update(gradient, state, params)
        selected = select_mask(out["masks"][:, -1], out["objectness"][:, -1])
        dice = dice_loss(selected[:, None, None], targets).mean()
        return optax.apply_updates(params, updates), state, dice

    state = optimiser.init(params)
    history = []
    for _ in range(60):
        params, state, dice = step(params, state)
        history.append(float(dice))
    assert history[0] > 0.3
    assert history[-1] < 0.2 * history[0]
