"""What is recorded of a pretraining."""

import numpy as np

from sempart_jax.training.multi_crop import Crops
from sempart_jax.training.pretraining import attention_columns, crop_columns


def test_attention_becomes_a_map_of_each_head_and_of_their_mean():
    images = np.zeros((1, 16, 16, 3), np.uint8)
    images[0, 0, 0] = 255
    first, second = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[0.4, 0.0], [0.0, 0.0]])
    rows = np.stack([np.concatenate([[0.5], each.ravel()]) for each in (first, second)])[None]
    columns = attention_columns(images, rows.astype(np.float32), side=2)
    assert list(columns) == ["image", "mean of heads", "head 1", "head 2"]
    assert columns["image"][0, 0, 0].tolist() == [1, 1, 1]
    np.testing.assert_allclose(columns["head 1"][0, ..., 0], first / 0.4, rtol=1e-6)
    np.testing.assert_allclose(columns["head 2"][0, ..., 0], second / 0.4, rtol=1e-6)
    mean = (first + second) / 2
    np.testing.assert_allclose(columns["mean of heads"][0, ..., 0], mean / mean.max(), rtol=1e-6)


def test_a_map_of_nothing_stays_finite():
    rows = np.zeros((2, 3, 5), np.float32)
    columns = attention_columns(np.zeros((2, 8, 8, 3), np.uint8), rows, side=2)
    assert all(np.all(np.isfinite(column)) for column in columns.values())


def test_crops_of_an_image_lie_in_its_row():
    images = np.full((3, 16, 16, 3), 51, np.uint8)
    crops = Crops(
        np.arange(2 * 3).reshape(2, 3, 1, 1, 1) * np.ones((8, 8, 3), np.float32),
        10 + np.arange(4 * 3).reshape(4, 3, 1, 1, 1) * np.ones((4, 4, 3), np.float32),
    )
    columns = crop_columns(images, crops)
    assert list(columns) == ["image", "global 1", "global 2", *(f"local {n}" for n in range(1, 5))]
    np.testing.assert_allclose(columns["image"], 0.2)
    assert columns["global 2"].shape == (3, 8, 8, 3)
    assert columns["global 2"][:, 0, 0, 0].tolist() == [3, 4, 5]
    assert columns["local 4"].shape == (3, 4, 4, 3)
    assert columns["local 4"][:, 0, 0, 0].tolist() == [19, 20, 21]
