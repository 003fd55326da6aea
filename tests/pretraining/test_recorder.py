"""What is recorded of a pretraining."""

import numpy as np

from sempart_jax.pretraining.recorder import attention_columns


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
