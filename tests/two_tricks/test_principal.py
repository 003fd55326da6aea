"""The principal component of a data set, on features with a planted foreground."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.two_tricks.principal import fit_principal_foreground

COUNT, SIDE, WIDTH = 12, 10, 16


def planted(seed=0):
    """Features of length one in two groups, and which patches are foreground: a block inside."""
    rng = np.random.default_rng(seed)
    background, foreground = rng.normal(size=(2, WIDTH))
    truth = np.zeros((COUNT, SIDE, SIDE), bool)
    for mask in truth:
        top, left = rng.integers(1, 5, 2)
        mask[top : top + 4, left : left + 4] = True
    features = np.where(truth[..., None], foreground, background)
    features = features + 0.2 * rng.normal(size=(COUNT, SIDE, SIDE, WIDTH))
    return (features * rng.uniform(0.5, 2, truth.shape)[..., None]).astype(np.float32), truth


FEATURES, TRUTH = planted()


def test_the_planted_foreground_is_found():
    fitted = fit_principal_foreground(FEATURES)
    foreground = np.asarray(fitted(jnp.asarray(FEATURES)))
    assert foreground.shape == (COUNT, SIDE, SIDE, 1)
    np.testing.assert_array_equal(foreground[..., 0] > 0.5, TRUTH)
    assert foreground[TRUTH].mean() > 0.95
    assert foreground[~TRUTH].mean() < 0.05


def test_direction_and_valley_are_those_in_float64():
    fitted = fit_principal_foreground(FEATURES)
    unit = FEATURES.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    flat = unit.reshape(-1, WIDTH)
    mean = flat.mean(0)
    # Of the singular vectors, not of the covariance.
    direction = np.linalg.svd(flat - mean, full_matrices=False)[2][0]
    direction *= np.sign(direction @ fitted.direction)
    np.testing.assert_allclose(fitted.direction, direction, atol=1e-9)
    place = (unit - mean) @ direction
    # The planted groups are so far apart that Otsu's are the same.
    lower, upper = place[~TRUTH].mean(), place[TRUTH].mean()
    assert fitted.distance == pytest.approx(upper - lower, rel=1e-2)
    # Each patch by itself, not counted in bins.
    grid = np.linspace(lower, upper, 500)
    widths = (grid[:, None] - place.ravel()) / (0.1 * place.std())
    density = np.exp(-(widths**2) / 2).sum(-1)
    at_threshold = np.interp(fitted.threshold, grid, density)
    assert at_threshold - density.min() < 1e-3 * density.max()
    expected = 1 / (1 + np.exp(-10 * (place - fitted.threshold) / fitted.distance))
    np.testing.assert_allclose(fitted(jnp.asarray(FEATURES))[..., 0], expected, atol=1e-4)


def test_the_valley_lies_where_few_patches_are_not_halfway():
    # Half of the background is spread out towards the foreground, up to two thirds of the way.
    places = np.concatenate([np.zeros(500), np.linspace(0, 0.66, 500), np.ones(300)])
    features = np.stack([np.cos(places), np.sin(places)], -1)[None, :, None]
    fitted = fit_principal_foreground(features.astype(np.float32))
    place = ((features - fitted.mean) @ fitted.direction).ravel()
    last, first = place[999], place[1000]
    assert min(last, first) < fitted.threshold < max(last, first)


def test_neither_order_nor_length_nor_sign_of_the_features_matters():
    expected = np.asarray(fit_principal_foreground(FEATURES)(jnp.asarray(FEATURES)))
    for change in (
        lambda x: x[::-1],
        lambda x: x[:, :, ::-1],
        lambda x: x.swapaxes(1, 2),
    ):
        changed = jnp.asarray(change(FEATURES))
        fitted = fit_principal_foreground(change(FEATURES))
        np.testing.assert_allclose(fitted(changed), change(expected), atol=1e-5)
    for factor in (3, -1):
        fitted = fit_principal_foreground(FEATURES * factor)
        np.testing.assert_allclose(fitted(jnp.asarray(FEATURES * factor)), expected, atol=1e-5)


def test_the_border_decides_which_side_is_foreground():
    swapped = FEATURES[:, [*range(5, SIDE), *range(5)]][:, :, [*range(5, SIDE), *range(5)]]
    truth = TRUTH[:, [*range(5, SIDE), *range(5)]][:, :, [*range(5, SIDE), *range(5)]]
    fitted = fit_principal_foreground(swapped)
    # The block now covers most of the border's corners.
    np.testing.assert_array_equal(np.asarray(fitted(jnp.asarray(swapped)))[..., 0] > 0.5, ~truth)


def test_features_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="no principal component"):
        fit_principal_foreground(np.ones((2, 4, 4, 3), np.float32))


def test_no_gradient_flows_into_the_features():
    fitted = fit_principal_foreground(FEATURES)
    gradient = jax.grad(lambda x: jnp.sum(fitted(x)))(jnp.asarray(FEATURES))
    assert not np.any(gradient)
    # An all-zero feature, such as of a dead patch, gives a number.
    assert np.isfinite(np.asarray(fitted(jnp.zeros((1, 2, 2, WIDTH))))).all()
