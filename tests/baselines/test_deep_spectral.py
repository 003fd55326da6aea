"""Deep Spectral Methods against the authors' code and against SciPy."""

import numpy as np
import pytest

from sempart_jax.baselines.deep_spectral import (
    COLOR_NEIGHBOURS,
    POSITION_WEIGHTS,
    color_affinity,
    deep_spectral,
)
from tests.baselines.references import (
    cosines,
    generalised_eigenvector,
    handcrafted_keys,
    photographs,
    seeded_vit_keys,
)


def brute_color_affinity(image):
    height, width, _ = image.shape
    affinity = np.zeros((height * width, height * width))
    for count, weight in zip(COLOR_NEIGHBOURS, POSITION_WEIGHTS, strict=True):
        points = [
            (*image[row, column], weight * column / (width - 1), weight * row / (height - 1))
            for row in range(height)
            for column in range(width)
        ]
        distance = np.linalg.norm(np.array(points)[:, None] - np.array(points)[None], axis=-1)
        for patch, nearest in enumerate(np.argsort(distance, axis=1)[:, :count]):
            affinity[patch, nearest] += 1
            affinity[nearest, patch] += 1
    return affinity


def test_golden(golden):
    values = golden("baselines")
    result = deep_spectral(values["keys"])
    theirs = values["deep_spectral_eigenvector"]
    for ours, each in zip(result["eigenvector"], theirs, strict=True):
        assert (ours * each).sum() / np.linalg.norm(ours) / np.linalg.norm(each) > 0.9999
    assert (result["foreground"].mean(axis=(1, 2)) <= 0.5).all()
    np.testing.assert_array_equal(result["mask"] & ~result["foreground"], False)


def test_color_affinity_is_that_of_all_pairs():
    image = np.random.default_rng(0).random((6, 7, 3))
    np.testing.assert_array_equal(color_affinity(image), brute_color_affinity(image))


@pytest.mark.parametrize("color_weight", [0.0, 10.0])
@pytest.mark.parametrize(("keys_of", "side"), [(handcrafted_keys, 128), (seeded_vit_keys, 96)])
def test_real_photographs(reference_data, keys_of, side, color_weight):
    images = photographs(reference_data, 4, side)
    keys = keys_of(images)
    grid = photographs(reference_data, 4, keys.shape[1])
    result = deep_spectral(keys, grid, color_weight)
    for each, image, ours in zip(keys, grid, result["eigenvector"], strict=True):
        weights = np.maximum(cosines(each), 0)
        weights = weights / weights.max() + color_weight * color_affinity(image)
        exact = generalised_eigenvector(weights).reshape(ours.shape)
        cosine = (ours * exact).sum() / np.linalg.norm(ours) / np.linalg.norm(exact)
        assert abs(cosine) > 0.999


@pytest.mark.parametrize(
    "keys",
    [
        np.ones((1, 5, 5, 3)),
        np.zeros((1, 5, 5, 3)),
        np.eye(12).reshape(1, 3, 4, 12),
        np.random.default_rng(0).normal(size=(1, 1, 9, 4)),
    ],
)
def test_degenerate_keys_give_a_mask(keys):
    image = np.zeros((*keys.shape[:3], 3), np.float32)
    for color_weight in (0.0, 10.0):
        result = deep_spectral(keys.astype(np.float32), image, color_weight)
        assert np.isfinite(result["eigenvector"]).all()
        assert result["mask"].shape == keys.shape[:3]


@pytest.mark.usefixtures("unchecked_shapes")
def test_color_needs_an_image_of_the_grid():
    keys = np.ones((1, 4, 4, 3), np.float32)
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 3\), got None"):
        deep_spectral(keys, color_weight=10.0)
    with pytest.raises(ValueError, match=r"got \(1, 8, 8, 3\)"):
        deep_spectral(keys, np.zeros((1, 8, 8, 3), np.float32), 10.0)
    with pytest.raises(ValueError, match="must not be negative"):
        deep_spectral(keys, color_weight=-1.0)
