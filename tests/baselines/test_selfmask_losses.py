"""SelfMask's losses against loops in float64 and SciPy's matching, and a network that learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.optimize import linear_sum_assignment

from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.selfmask_losses import (
    assign_targets,
    match_queries,
    pairwise_dice,
    ranking_loss,
    select_mask,
    selfmask_loss,
)
from sempart_jax.two_tricks.vit import VisionTransformer

loss = jax.jit(selfmask_loss)
match = jax.jit(match_queries)


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


def reference(mask_logits, objectness_logits, targets, valid, unmatched_weight):
    dice_total = ranking_total = 0.0
    for image, layers in enumerate(mask_logits):
        usable = [
            target
            for target, there in zip(targets[image], valid[image], strict=True)
            if there and target.any()
        ]
        if not usable:
            continue
        for layer, logits in enumerate(layers):
            masks = [enlarge(sigmoid(each), *targets.shape[2:]) for each in logits]
            cost = np.array([[dice_reference(mask, each) for each in usable] for mask in masks])
            matched = dict(zip(*linear_sum_assignment(cost), strict=True))
            losses = [row[matched.get(query, row.argmin())] for query, row in enumerate(cost)]
            weights = [1.0 if query in matched else unmatched_weight for query in range(len(cost))]
            dice_total += np.dot(weights, losses)
            ranking_total += ranking_reference(sigmoid(objectness_logits[image, layer]), losses)
    return {"dice": dice_total / len(targets), "ranking": ranking_total / len(targets)}


def draw(seed=0, batch=2, layers=2, queries=5, count=3, grid=(3, 4), size=(12, 8)):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0, 2, (batch, layers, queries, *grid)).astype(np.float32),
        rng.normal(0, 1, (batch, layers, queries)).astype(np.float32),
        (rng.random((batch, count, *size)) < 0.4).astype(np.float32),
        np.ones((batch, count), bool),
    )


def assert_close(values, expected, rtol=1e-5):
    for name in ("dice", "ranking"):
        assert values[name].dtype == jnp.float32
        np.testing.assert_allclose(values[name], expected[name], rtol=rtol, atol=1e-6)


def test_dice_agrees_with_the_formula():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 4, 5, 6)).astype(np.float32)
    targets = (rng.random((2, 3, 5, 6)) < 0.5).astype(np.float32)
    ours = jax.jit(pairwise_dice)(masks, targets)
    assert ours.shape == (2, 3, 4, 3)
    for image, layer, query, target in np.ndindex(ours.shape):
        expected = dice_reference(masks[image, layer, query], targets[image, target])
        np.testing.assert_allclose(ours[image, layer, query, target], expected, rtol=1e-5)


def test_dice_of_binary_masks():
    masks = jnp.array([[1.0, 1, 0, 0], [0, 0, 0, 0]]).reshape(1, 1, 2, 2, 2)
    targets = jnp.array([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).reshape(1, 3, 2, 2)
    (((of_full, of_empty),),) = pairwise_dice(masks, targets)
    np.testing.assert_allclose(of_full, [0, 1 - 1 / 5, 1 - 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(of_empty, [1 - 1 / 3, 1 - 1 / 3, 0], rtol=1e-6)


@settings(deadline=None, max_examples=150)
@given(
    shape=st.sampled_from([(1, 1), (5, 1), (4, 4), (7, 3), (20, 6)]),
    kind=st.sampled_from(["random", "tied", "constant", "negative", "dice"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_matching_costs_as_little_as_scipys(shape, kind, seed):
    rng = np.random.default_rng(seed)
    cost = {
        "random": rng.random(shape),
        "tied": rng.integers(0, 3, shape),
        "constant": np.full(shape, rng.random()),
        "negative": rng.normal(0, 100, shape),
        "dice": 1 - 1e-3 * rng.random(shape),
    }[kind].astype(np.float32)
    queries = np.asarray(match(cost))
    assert len(set(queries.tolist())) == shape[1]
    assert 0 <= queries.min() <= queries.max() < shape[0]
    total = cost[queries, np.arange(shape[1])].sum(dtype=np.float64)
    best = cost[linear_sum_assignment(cost)].sum(dtype=np.float64)
    np.testing.assert_allclose(total, best, rtol=1e-6, atol=1e-5 * np.abs(cost).max())


def test_one_target_takes_the_cheapest_query():
    cost = np.random.default_rng(0).random((6, 20, 1)).astype(np.float32)
    mapped = jax.jit(jax.vmap(match_queries))(cost)
    np.testing.assert_array_equal(mapped[:, 0], cost[:, :, 0].argmin(1))


def test_matching_is_mapped_and_stays_on_the_device():
    cost = np.random.default_rng(0).random((4, 3, 9, 5)).astype(np.float32)
    mapped = jax.jit(jax.vmap(jax.vmap(match_queries)))
    for queries, each in zip(mapped(cost).reshape(-1, 5), cost.reshape(-1, 9, 5), strict=True):
        np.testing.assert_array_equal(queries, match(each))
    assert "callback" not in mapped.lower(cost).as_text()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_matching_ends_on_costs_that_are_not_finite(bad):
    cost = np.random.default_rng(0).random((7, 3)).astype(np.float32)
    for where in ((2, 1), (slice(None), 1), ...):
        spoilt = cost.copy()
        spoilt[where] = bad
        assert len(set(np.asarray(match(spoilt)).tolist())) == 3


def test_matching_refuses_more_targets_than_queries():
    with pytest.raises(ValueError, match="4 targets need as many queries, got 3"):
        match_queries(jnp.zeros((3, 4)))


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


def test_queries_without_a_match_take_the_nearest_usable_target():
    dice = jnp.array([[0.1, 0.3, 0.0], [0.2, 0.9, 0.0], [0.8, 0.7, 0.0], [0.6, 0.5, 0.0]])
    target, matched = jax.jit(assign_targets)(dice, jnp.array([True, True, False]))
    # 0.3 + 0.2 is less than 0.1 + 0.5.
    np.testing.assert_array_equal(target, [1, 0, 1, 1])
    np.testing.assert_array_equal(matched, [True, True, False, False])


@pytest.mark.parametrize("unmatched_weight", [1.0, 0.0, 0.3])
def test_loss_agrees_with_float64(unmatched_weight):
    inputs = draw()
    inputs[2][0, 1] = 0  # empty
    inputs[3][1, 0] = False
    values = loss(*inputs, jnp.float32(unmatched_weight))
    assert_close(values, reference(*inputs, unmatched_weight))


@pytest.mark.parametrize(
    ("grid", "size"), [((4, 4), (4, 4)), ((5, 3), (7, 11)), ((6, 6), (4, 3)), ((1, 2), (9, 9))]
)
def test_loss_at_other_sizes(grid, size):
    inputs = draw(1, batch=1, queries=4, count=1, grid=grid, size=size)
    assert_close(loss(*inputs), reference(*inputs, 1.0))


def test_as_many_targets_as_queries_are_all_matched():
    inputs = draw(2, queries=3, count=3)
    assert_close(loss(*inputs, 0.0), reference(*inputs, 1.0))


def test_boolean_targets_and_bfloat16_logits():
    masks, objectness, targets, valid = draw()
    half = [jnp.asarray(values, jnp.bfloat16) for values in (masks, objectness)]
    with jax.numpy_dtype_promotion("strict"):
        values = loss(*half, targets > 0, valid)
    expected = loss(*(values.astype(jnp.float32) for values in half), targets, valid)
    assert_close(values, expected)


def test_order_of_queries_and_targets_is_free():
    masks, objectness, targets, valid = draw()
    valid[1, 2] = False
    expected = loss(masks, objectness, targets, valid)
    order = np.array([4, 2, 0, 1, 3])
    assert_close(loss(masks[:, :, order], objectness[:, :, order], targets, valid), expected)
    order = np.array([2, 0, 1])
    assert_close(loss(masks, objectness, targets[:, order], valid[:, order]), expected)


def test_targets_that_are_not_valid_do_not_count():
    masks, objectness, targets, valid = draw(count=3)
    valid[:, 1] = False
    other = targets.copy()
    other[:, 1] = 1 - other[:, 1]
    kept = loss(masks, objectness, targets, valid)
    assert_close(loss(masks, objectness, other, valid), kept)
    assert_close(loss(masks, objectness, targets[:, [0, 2]], valid[:, [0, 2]]), kept)


def both(inputs):
    def total(masks, objectness):
        values = selfmask_loss(masks, objectness, *inputs[2:])
        return values["dice"] + values["ranking"]

    inputs = [jnp.asarray(values) for values in inputs]
    return jax.jit(jax.value_and_grad(total, (0, 1)))(*inputs[:2])


def test_without_targets_loss_and_gradient_are_zero():
    masks, objectness, targets, valid = draw()
    for absent in (
        (masks, objectness, np.zeros_like(targets), valid),
        (masks, objectness, targets, np.zeros_like(valid)),
    ):
        value, gradients = both(absent)
        assert value == 0
        for gradient in gradients:
            np.testing.assert_array_equal(gradient, 0)


def test_images_without_targets_stay_in_the_average():
    masks, objectness, targets, valid = draw()
    whole = loss(masks, objectness, targets, valid)
    # A copy: on the CPU the loss above may still be reading the arrays that it was given.
    without = valid.copy()
    without[1] = False
    first = loss(masks[:1], objectness[:1], targets[:1], valid[:1])
    half = {name: value / 2 for name, value in first.items()}
    assert_close(loss(masks, objectness, targets, without), half)
    assert whole["dice"] > half["dice"] + 0.1


def test_perfect_masks_cost_nothing():
    _, objectness, targets, valid = draw(grid=(12, 8), count=1)
    masks = np.broadcast_to(200 * targets[:, None] - 100, (2, 2, 5, 12, 8))
    assert abs(loss(masks, objectness, targets, valid)["dice"]) < 1e-5
    # Two objects, each found by one query: the set loss is zero, the other queries are not asked.
    two = np.zeros((1, 2, 12, 8), np.float32)
    two[:, 0, :5], two[:, 1, 7:] = 1, 1
    masks = np.full((1, 1, 5, 12, 8), -100, np.float32)
    masks[:, 0, 3], masks[:, 0, 1] = 200 * two[:, 0] - 100, 200 * two[:, 1] - 100
    found = (masks, objectness[:1, :1], two, np.ones((1, 2), bool))
    assert abs(loss(*found, 0.0)["dice"]) < 1e-5
    assert loss(*found, 1.0)["dice"] > 2.5


def test_extreme_and_constant_masks_have_finite_gradients():
    _, objectness, targets, valid = draw()
    targets[:] = 0
    targets[:, :, 5, 4] = 1  # a single pixel
    for level in (-1e4, 0.0, 1e4):
        inputs = (np.full((2, 2, 5, 3, 4), level, np.float32), objectness, targets, valid)
        value, gradients = both(inputs)
        expected = reference(*(np.clip(values, -500, 500) for values in inputs[:2]), *inputs[2:], 1)
        np.testing.assert_allclose(value, expected["dice"] + expected["ranking"], rtol=1e-5)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradient_agrees_with_finite_differences():
    inputs = draw(3, batch=1, queries=4, count=2)
    masks, objectness, targets, valid = map(jnp.asarray, inputs)

    @jax.jit
    def total(masks, objectness):
        values = selfmask_loss(masks, objectness, targets, valid, 0.5)
        return values["dice"] + values["ranking"]

    check_grads(total, (masks, objectness), order=1, modes=["rev"], eps=1e-2, rtol=1e-2)


def test_masks_learn_from_dice_and_objectness_from_the_ranking():
    masks, objectness, targets, valid = map(jnp.asarray, draw())

    def term(name):
        def value(masks, objectness):
            return selfmask_loss(masks, objectness, targets, valid)[name]

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
            ((8, 1, 224, 224), jnp.float32),
            ((8, 1), jnp.bool_),
        )
    ]

    def total(masks, objectness, targets, valid):
        values = selfmask_loss(masks, objectness, targets, valid)
        return values["dice"] + values["ranking"]

    memory = jax.jit(jax.grad(total, (0, 1))).lower(*shapes).compile().memory_analysis()
    # Masks at 224 x 224 alone are 193 MB.
    assert memory.temp_size_in_bytes < 40e6


@pytest.mark.parametrize("count", [0, 6])
def test_loss_refuses_a_wrong_number_of_targets(count):
    masks, objectness, _, _ = draw()
    targets, valid = np.zeros((2, count, 12, 8), np.float32), np.ones((2, count), bool)
    with pytest.raises(ValueError, match=f"targets must hold 1 to 5 masks an image.*got {count}"):
        loss(masks, objectness, targets, valid)


def test_selected_mask_is_that_of_the_highest_objectness():
    rng = np.random.default_rng(0)
    masks = rng.normal(0, 3, (3, 4, 5, 6)).astype(np.float32)
    objectness = np.array([[0, 2, 1, -1], [-5, -9, -4, -7], [1, 3, 3, 0]], np.float32)
    selected = jax.jit(select_mask)(masks, objectness)
    expected = [sigmoid(masks[image, query]) for image, query in enumerate((1, 2, 1))]
    np.testing.assert_allclose(selected, expected, rtol=1e-5)


def two_coloured_images():
    rng = np.random.default_rng(0)
    targets = np.zeros((4, 1, 16, 16), np.float32)
    for target, (top, left) in zip(targets, ((0, 0), (4, 8), (8, 4), (8, 8)), strict=True):
        target[0, top : top + 8, left : left + 8] = 1
    colours = rng.normal(0, 1, (4, 2, 1, 1, 3)).astype(np.float32)
    images = np.where(targets[:, 0, ..., None] > 0, colours[:, 0], colours[:, 1])
    return jnp.asarray(images), jnp.asarray(targets)


@pytest.mark.slow
def test_a_small_network_learns_the_objects_of_four_images():
    images, targets = two_coloured_images()
    valid = jnp.ones((4, 1), bool)
    backbone = VisionTransformer(4, 32, 2, 2, trained_grid=4)
    model = MaskFormer(backbone, num_queries=5, num_layers=2, scale=4)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    # Five times this rate saturates the masks of an image at nothing, where no gradient is left.
    optimiser = optax.adamw(2e-4)

    def total(params):
        out = model.apply({"params": params}, images)
        values = selfmask_loss(out["masks"], out["objectness"], targets, valid)
        return values["dice"] + values["ranking"], out

    @jax.jit
    def step(params, state):
        (_, out), gradient = jax.value_and_grad(total, has_aux=True)(params)
        updates, state = optimiser.update(gradient, state, params)
        selected = select_mask(out["masks"][:, -1], out["objectness"][:, -1])
        dice = pairwise_dice(selected[:, None, None], targets).mean()
        return optax.apply_updates(params, updates), state, dice

    state = optimiser.init(params)
    history = []
    for _ in range(60):
        params, state, dice = step(params, state)
        history.append(float(dice))
    assert history[0] > 0.3
    assert history[-1] < 0.2 * history[0]
