"""LOST against the authors' code and against plain loops."""

import numpy as np
import pytest
import scipy.ndimage

from sempart_jax.baselines.lost import lost
from tests.baselines.references import handcrafted_keys, photographs, seeded_vit_keys


def reference(keys, k):
    height, width, channels = keys.shape
    flat = keys.reshape(-1, channels).astype(np.float64)
    similarity = flat @ flat.T
    degree = [(row > 0).sum() - (row[i] > 0) for i, row in enumerate(similarity)]
    lowest = np.argsort(degree, kind="stable")[:k]
    seed = lowest[0]
    fellows = [patch for patch in lowest if similarity[seed, patch] > 0]
    foreground = (sum(similarity[patch] for patch in fellows) > 0).reshape(height, width)
    labels, _ = scipy.ndimage.label(foreground)
    return seed, labels == labels.flat[seed]


def test_golden(golden):
    values = golden("baselines")
    result = lost(values["keys"])
    np.testing.assert_array_equal(result["seed"], values["lost_seed"])
    for ours, theirs in zip(result["mask"], values["lost_mask"], strict=True):
        assert (ours == theirs).mean() >= 0.995


@pytest.mark.parametrize("k", [1, 20, 100, 1000])
def test_random_keys(k):
    keys = np.random.default_rng(k).normal(size=(4, 7, 9, 5)).astype(np.float32)
    result = lost(keys, k)
    for each, seed, mask in zip(keys, result["seed"], result["mask"], strict=True):
        expected_seed, expected = reference(each, k)
        assert seed == expected_seed
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(("keys_of", "side"), [(handcrafted_keys, 128), (seeded_vit_keys, 96)])
def test_real_photographs(reference_data, keys_of, side):
    keys = keys_of(photographs(reference_data, 4, side))
    # These keys all look one way, as DINO's do not; around their mean they do not either.
    keys = keys - keys.mean(axis=(1, 2), keepdims=True)
    result = lost(keys)
    for each, seed, mask in zip(keys, result["seed"], result["mask"], strict=True):
        expected_seed, expected = reference(each, 100)
        assert seed == expected_seed
        assert (mask == expected).mean() >= 0.995


@pytest.mark.parametrize(
    "keys", [np.ones((1, 5, 5, 3)), np.zeros((1, 5, 5, 3)), -np.ones((1, 1, 7, 3))]
)
def test_degenerate_keys_give_a_mask_at_the_seed(keys):
    result = lost(keys.astype(np.float32))
    assert result["mask"].reshape(-1)[result["seed"][0]]


def test_k_must_be_positive():
    with pytest.raises(ValueError, match="k must be at least 1 patch, got 0"):
        lost(np.ones((1, 2, 2, 3), np.float32), 0)
