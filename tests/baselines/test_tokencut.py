"""TokenCut against the authors' code and against SciPy."""

import numpy as np
import pytest

from sempart_jax.baselines.tokencut import tokencut
from tests.baselines.references import cosines, cut, handcrafted_keys, photographs, seeded_vit_keys


def planted(height, width, rows, columns, noise=0.2):
    """Keys of an object on a ground that are at right angles."""
    keys = np.random.default_rng(0).normal(scale=noise, size=(1, height, width, 8))
    keys[..., 0] += 1
    keys[0, rows, columns, 0] -= 1
    keys[0, rows, columns, 1] += 1
    return keys.astype(np.float32)


def test_golden(golden):
    values = golden("baselines")
    result = tokencut(values["keys"])
    for ours, theirs in zip(result["mask"], values["tokencut_mask"], strict=True):
        assert (ours == theirs).mean() >= 0.995
    for ours, theirs in zip(result["eigenvector"], values["tokencut_eigenvector"], strict=True):
        cosine = (ours * theirs).sum() / np.linalg.norm(ours) / np.linalg.norm(theirs)
        # Not up to the sign alone: both are turned to the foreground.
        assert cosine > 0.9999


@pytest.mark.parametrize(("keys_of", "side"), [(handcrafted_keys, 128), (seeded_vit_keys, 96)])
def test_real_photographs_are_cut_as_scipy_does(reference_data, keys_of, side):
    keys = keys_of(photographs(reference_data, 8, side))
    agreeing = []
    for ours, each in zip(tokencut(keys)["foreground"], keys, strict=True):
        exact = cut(np.where(cosines(each) > 0.2, 1.0, 1e-5)).reshape(ours.shape)
        # Where the eigenvalue is double, as in a graph of many parts, any cut is right.
        agreeing.append(max((ours == exact).mean(), (ours != exact).mean()))
    assert np.median(agreeing) >= 0.99
    assert np.mean(agreeing) >= 0.98


def test_planted_object_is_found():
    result = tokencut(planted(10, 14, slice(2, 6), slice(3, 8)))
    expected = np.zeros((10, 14), bool)
    expected[2:6, 3:8] = True
    np.testing.assert_array_equal(result["mask"][0], expected)
    assert expected.flat[result["seed"][0]]


def test_component_is_that_of_the_seed():
    keys = planted(8, 12, slice(1, 4), slice(1, 5))
    keys[0, 6, 8:11] = keys[0, 1, 1]
    result = tokencut(keys)
    assert result["foreground"][0, 6, 8:11].all()
    mask = result["mask"][0]
    assert mask.flat[result["seed"][0]]
    assert mask[1:4, 1:5].all() != mask[6, 8:11].all()


@pytest.mark.parametrize(
    "keys",
    [
        np.ones((1, 6, 6, 4)),
        np.zeros((1, 6, 6, 4)),
        np.eye(24).reshape(1, 4, 6, 24),
        np.random.default_rng(0).normal(size=(1, 1, 9, 4)),
        np.ones((1, 1, 1, 4)),
    ],
)
def test_degenerate_keys_give_a_mask(keys):
    result = tokencut(keys.astype(np.float32))
    assert np.isfinite(result["eigenvector"]).all()
    assert result["mask"].shape == keys.shape[:3]
    assert result["mask"].any()


def test_one_bright_patch():
    keys = np.tile(np.array([1, 0], np.float32), (1, 7, 7, 1))
    keys[0, 3, 4] = [0, 1]
    mask = tokencut(keys)["mask"][0]
    assert mask[3, 4]
    assert mask.sum() == 1
