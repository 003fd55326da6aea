"""Loss terms against golden values, a float64 reference, gradients and invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from sempart_jax.two_tricks import losses
from sempart_jax.two_tricks.losses import equivariance

# Compiled as one: op by op, each of the many small ones would compile on its own.
normalized_cut = jax.jit(losses.normalized_cut, static_argnames=("tau", "eps"))
graph_total_variation_coarse = jax.jit(
    losses.graph_total_variation_coarse, static_argnames=("tau", "eps")
)
graph_total_variation_fine = jax.jit(losses.graph_total_variation_fine, static_argnames="sigma")
coarse_fine_consistency = jax.jit(losses.coarse_fine_consistency)


def reference_affinity(features, tau, eps):
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    unit = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.where(unit @ unit.T > tau, 1.0, eps)


def reference_normalized_cut(features, mask, tau=0.4, eps=1e-6):
    losses = []
    for feature, soft in zip(features, mask, strict=True):
        affinity = reference_affinity(feature, tau, eps)
        s = np.clip(soft.astype(np.float64).ravel(), eps, 1 - eps)
        cut = s @ affinity @ (1 - s)
        losses.append(cut / (s @ affinity.sum(1)) + cut / ((1 - s) @ affinity.sum(1)))
    return np.mean(losses)


def reference_normalized_cut_gradient(features, mask, tau=0.4, eps=1e-6):
    """Derivative of the mean over the batch by masks inside of [eps, 1 - eps]."""
    gradients = []
    for feature, soft in zip(features, mask, strict=True):
        affinity = reference_affinity(feature, tau, eps)
        s, degree = soft.astype(np.float64).ravel(), affinity.sum(1)
        cut, slope = s @ affinity @ (1 - s), degree - 2 * affinity @ s
        gradient = 0.0
        for links, sign in ((s @ degree, 1), ((1 - s) @ degree, -1)):
            gradient = gradient + slope / links - sign * cut * degree / links**2
        gradients.append(gradient.reshape(soft.shape) / len(mask))
    return np.stack(gradients)


def reference_total_variation(mask, weight):
    """``weight(b, i, j)`` of two pixels given as (row, column)."""
    batch, height, width, _ = mask.shape

    def reflect(index, size):
        return -index if index < 0 else 2 * (size - 1) - index if index >= size else index

    terms = []
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                for dr in (-1, 0, 1):
                    for dc in (-1, 0, 1):
                        if dr or dc:
                            other = reflect(row + dr, height), reflect(column + dc, width)
                            difference = float(mask[b, row, column, 0]) - float(mask[b][other][0])
                            terms.append(weight(b, (row, column), other) * difference**2)
    return np.mean(terms)


def random_inputs(height=6, width=7, depth=12, seed=0, batch=2):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(batch, height, width, depth)).astype(np.float32) + 0.5
    mask = rng.uniform(size=(batch, height, width, 1)).astype(np.float32)
    return features, mask


def channels_last(values, name):
    return jnp.asarray(np.moveaxis(values[name], 1, -1))


@pytest.mark.parametrize("tau", [0.4, 0.2])
def test_golden_normalized_cut(golden, tau):
    values = golden("losses")
    features, coarse = channels_last(values, "features"), channels_last(values, "coarse")
    loss, gradient = jax.jit(jax.value_and_grad(lambda m: normalized_cut(features, m, tau)))(coarse)
    np.testing.assert_allclose(loss, values[f"ncut_tau{tau}"], rtol=1e-5)
    expected = channels_last(values, f"ncut_tau{tau}_grad0")
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_golden_graph_total_variation(golden):
    values = golden("losses")
    image, fine = channels_last(values, "image"), channels_last(values, "fine")
    loss, gradient = jax.jit(jax.value_and_grad(graph_total_variation_fine, argnums=1))(image, fine)
    np.testing.assert_allclose(loss, values["gtv_fine"], rtol=1e-5)
    expected = channels_last(values, "gtv_fine_grad0")
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())

    features, coarse = channels_last(values, "features"), channels_last(values, "coarse")
    loss, gradient = jax.jit(jax.value_and_grad(graph_total_variation_coarse, argnums=1))(
        features, coarse
    )
    np.testing.assert_allclose(loss, values["gtv_coarse"], rtol=1e-5)
    expected = channels_last(values, "gtv_coarse_grad0")
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_golden_consistency(golden):
    values = golden("losses")
    coarse, fine = channels_last(values, "coarse"), channels_last(values, "fine")
    loss, (to_coarse, to_fine) = jax.jit(
        jax.value_and_grad(coarse_fine_consistency, argnums=(0, 1))
    )(coarse, fine)
    np.testing.assert_allclose(loss, values["coarse_fine_consistency"], rtol=1e-5)
    expected = channels_last(values, "coarse_fine_consistency_grad0")
    np.testing.assert_allclose(to_fine, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    expected = channels_last(values, "coarse_fine_consistency_grad1")
    np.testing.assert_allclose(to_coarse, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@settings(deadline=None, max_examples=12)
@given(size=st.sampled_from([(1, 1), (1, 6), (5, 4)]), seed=st.integers(0, 2**31))
def test_normalized_cut_equals_reference(size, seed):
    features, mask = random_inputs(*size, seed=seed)
    loss = normalized_cut(jnp.asarray(features), jnp.asarray(mask))
    np.testing.assert_allclose(loss, reference_normalized_cut(features, mask), rtol=2e-5)


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (5, 6)])
def test_total_variation_equals_reference(size):
    features, mask = random_inputs(*size)
    images, _ = random_inputs(*size, depth=3)

    def colour_weight(b, i, j):
        return np.exp(-((images[b][i].astype(np.float64) - images[b][j]) ** 2).sum() / 0.7)

    loss = graph_total_variation_fine(jnp.asarray(images), jnp.asarray(mask), sigma=0.7)
    np.testing.assert_allclose(loss, reference_total_variation(mask, colour_weight), rtol=1e-5)

    def feature_weight(b, i, j):
        x, y = features[b][i].astype(np.float64), features[b][j].astype(np.float64)
        return 1.0 if x @ y / np.linalg.norm(x) / np.linalg.norm(y) > 0.2 else 1e-3

    loss = graph_total_variation_coarse(jnp.asarray(features), jnp.asarray(mask), 0.2, 1e-3)
    np.testing.assert_allclose(loss, reference_total_variation(mask, feature_weight), rtol=1e-5)


def test_consistency_samples_the_four_middle_pixels_of_each_patch():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(size=(2, 3, 4, 1)).astype(np.float32)
    fine = rng.uniform(size=(2, 24, 32, 1)).astype(np.float32)
    sampled = fine.reshape(2, 3, 8, 4, 8)[:, :, 3:5, :, 3:5].mean((2, 4), dtype=np.float64)
    expected = np.mean((coarse[..., 0] - sampled) ** 2)
    loss = coarse_fine_consistency(jnp.asarray(coarse), jnp.asarray(fine))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_equivariance_is_the_mean_squared_difference():
    student, target = jnp.array([0.2, 0.9]), jnp.array([0.5, 0.5])
    loss = equivariance(student.reshape(1, 1, 2, 1), target.reshape(1, 1, 2, 1))
    np.testing.assert_allclose(loss, (0.09 + 0.16) / 2, rtol=1e-6)


def test_gradients_by_finite_differences():
    features, mask = (jnp.asarray(x) for x in random_inputs(4, 4))
    image = jnp.asarray(random_inputs(4, 4, depth=3)[0])
    fine = jnp.asarray(random_inputs(8, 8)[1])
    tolerances = {"order": 1, "modes": ("rev",), "rtol": 2e-2, "atol": 2e-2}
    check_grads(lambda m: normalized_cut(features, jnp.asarray(m)), (mask,), **tolerances)
    check_grads(
        lambda m: graph_total_variation_coarse(features, jnp.asarray(m)), (mask,), **tolerances
    )
    check_grads(lambda m: graph_total_variation_fine(image, jnp.asarray(m)), (mask,), **tolerances)
    check_grads(
        lambda c, f: coarse_fine_consistency(jnp.asarray(c), jnp.asarray(f)),
        (mask, fine),
        **tolerances,
    )


def test_no_gradient_flows_into_the_features():
    features, mask = (jnp.asarray(x) for x in random_inputs())
    for loss in (normalized_cut, graph_total_variation_coarse):
        assert not np.any(jax.jit(jax.grad(loss))(features, mask))


@pytest.mark.parametrize("seed", range(3))
def test_inverting_the_mask_changes_no_loss(seed):
    features, mask = (jnp.asarray(x) for x in random_inputs(seed=seed))
    for loss in (normalized_cut, graph_total_variation_coarse):
        np.testing.assert_allclose(loss(features, mask), loss(features, 1 - mask), rtol=1e-5)


def test_normalized_cut_ignores_the_order_of_patches_and_the_length_of_features():
    features, mask = random_inputs()
    order = np.random.default_rng(1).permutation(42)
    loss = normalized_cut(jnp.asarray(features), jnp.asarray(mask))
    shuffled = (x.reshape(2, 42, -1)[:, order].reshape(2, 6, 7, -1) for x in (3.7 * features, mask))
    np.testing.assert_allclose(normalized_cut(*map(jnp.asarray, shuffled)), loss, rtol=1e-5)


def test_normalized_cut_is_lowest_for_the_planted_partition():
    truth = np.zeros((1, 6, 6, 1), np.float32)
    truth[:, 1:4, 2:5] = 1
    features = np.where(truth > 0, [1.0, 0.1], [0.1, 1.0]).astype(np.float32)
    planted = float(normalized_cut(jnp.asarray(features), jnp.asarray(truth)))
    assert planted < 1e-4
    shifted = float(normalized_cut(jnp.asarray(features), jnp.asarray(np.roll(truth, 1, 1))))
    assert shifted > 0.1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_masks_give_finite_losses_and_gradients(dtype):
    features = jnp.asarray(random_inputs()[0], dtype)
    image = jnp.zeros((2, 6, 7, 3), dtype)
    all_losses = (
        lambda m: normalized_cut(features, m),
        lambda m: normalized_cut(jnp.zeros_like(features), m),
        lambda m: normalized_cut(jnp.ones_like(features), m),
        lambda m: graph_total_variation_coarse(features, m),
        lambda m: graph_total_variation_fine(image, m),
        lambda m: coarse_fine_consistency(m, m),
    )
    compute = jax.jit(lambda mask: [jax.value_and_grad(loss)(mask) for loss in all_losses])
    for value in (0.0, 1.0, 0.5, 1e-8):
        for loss, gradient in compute(jnp.full((2, 6, 7, 1), value, dtype)):
            assert loss.dtype == jnp.float32
            assert np.isfinite(loss)
            assert np.all(np.isfinite(np.asarray(gradient, np.float32)))


def test_losses_in_bfloat16_are_close_to_float32():
    features, mask = (jnp.asarray(x, jnp.bfloat16) for x in random_inputs(10, 12, 64))
    exact = normalized_cut(features.astype(jnp.float32), mask.astype(jnp.float32))
    np.testing.assert_allclose(normalized_cut(features, mask), exact, rtol=1e-6)


def test_losses_under_jit_and_vmap():
    features, mask = (jnp.asarray(x) for x in random_inputs(batch=4))
    for loss in (normalized_cut, graph_total_variation_coarse):
        separate = jax.jit(jax.vmap(lambda f, m, loss=loss: loss(f[None], m[None])))(features, mask)
        assert separate.shape == (4,)
        np.testing.assert_allclose(separate.mean(), loss(features, mask), rtol=1e-5)


def test_normalized_cut_of_several_blocks_equals_reference():
    # 41 x 41 patches are more than one block of the affinity, and divide into none.
    features, mask = random_inputs(41, 41)
    loss, gradient = jax.jit(jax.value_and_grad(normalized_cut, argnums=1))(
        jnp.asarray(features), jnp.asarray(mask)
    )
    np.testing.assert_allclose(loss, reference_normalized_cut(features, mask), rtol=2e-5)
    expected = reference_normalized_cut_gradient(features, mask)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_reference_gradient_by_finite_differences():
    features, mask = random_inputs(3, 4)
    gradient = reference_normalized_cut_gradient(features, mask)
    step = np.random.default_rng(5).normal(size=mask.shape)
    moved = (reference_normalized_cut(features, mask + sign * 1e-6 * step) for sign in (1, -1))
    np.testing.assert_allclose(np.sum(gradient * step), np.subtract(*moved) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("loss", [normalized_cut, graph_total_variation_coarse])
@pytest.mark.parametrize("batch", [1, 4])
def test_memory_grows_with_the_patches_and_not_with_their_square(loss, batch):
    def temporary_bytes(side):
        features = jax.ShapeDtypeStruct((batch, side, side, 64), jnp.float32)
        mask = jax.ShapeDtypeStruct((batch, side, side, 1), jnp.float32)
        value_and_gradient = jax.jit(jax.value_and_grad(loss, argnums=1))
        compiled = value_and_gradient.lower(features, mask).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Four and sixteen times the patches; the square of 25,600 would be 2.6 GB for an image.
    assert temporary_bytes(80) < 5 * temporary_bytes(40)
    assert temporary_bytes(160) < 17 * temporary_bytes(40)


def test_total_variation_of_a_single_row_is_an_error():
    features, mask = (jnp.asarray(x) for x in random_inputs(1, 7))
    with pytest.raises(ValueError, match="2x2"):
        graph_total_variation_coarse(features, mask)
