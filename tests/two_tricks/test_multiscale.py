"""Crop-and-zoom and the teacher's target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels.resize import resize_bilinear
from sempart_jax.two_tricks.filters import grey_guide, guided_filter
from sempart_jax.two_tricks.multiscale import crop_and_zoom, random_corners, teacher_target


def images(batch=3, size=24, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(size=(batch, size, size, channels)), jnp.float32)


def test_corners_are_uniform_over_all_that_fit():
    keys = jax.random.split(jax.random.key(0), 4000)
    corners = np.asarray(random_corners(keys, 10, 8, 5, 4))
    rows, row_counts = np.unique(corners[:, 0], return_counts=True)
    columns, column_counts = np.unique(corners[:, 1], return_counts=True)
    assert list(rows) == list(range(6))
    assert list(columns) == list(range(5))
    # Five standard deviations of a binomial count.
    assert np.all(np.abs(row_counts - 4000 / 6) < 5 * np.sqrt(4000 / 6))
    assert np.all(np.abs(column_counts - 4000 / 5) < 5 * np.sqrt(4000 / 5))
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.1


def test_corners_depend_on_the_image_key_alone():
    keys = jax.random.split(jax.random.key(1), 6)
    together = random_corners(keys, 320, 320, 160, 160)
    halves = [random_corners(part, 320, 320, 160, 160) for part in (keys[:3], keys[3:])]
    np.testing.assert_array_equal(together, jnp.concatenate(halves))


def test_a_crop_of_the_whole_image_has_one_corner():
    corners = random_corners(jax.random.split(jax.random.key(0), 5), 6, 6, 6, 6)
    assert not np.any(corners)


@pytest.mark.parametrize("crop", [(0, 4), (11, 4), (4, 11)])
def test_a_crop_that_does_not_fit_is_an_error(crop):
    with pytest.raises(ValueError, match="does not fit"):
        random_corners(jax.random.split(jax.random.key(0), 1), 10, 10, *crop)


def test_crop_and_zoom_cuts_each_image_at_its_corner():
    x = images()
    corners = jnp.array([[0, 0], [12, 3], [5, 12]])
    zoomed = jax.jit(lambda x, c: crop_and_zoom(x, c, 12, 12))(x, corners)
    assert zoomed.shape == x.shape
    for index, (row, column) in enumerate(np.asarray(corners)):
        crop = x[index : index + 1, row : row + 12, column : column + 12]
        np.testing.assert_allclose(zoomed[index], resize_bilinear(crop, 24, 24)[0], atol=1e-6)


def test_zoom_of_a_linear_ramp_is_a_ramp_of_half_the_slope():
    ramp = jnp.broadcast_to(jnp.arange(16, dtype=jnp.float32).reshape(1, 1, 16, 1), (1, 16, 16, 1))
    zoomed = crop_and_zoom(ramp, jnp.array([[4, 6]]), 8, 8)
    # Inside, away from the clamped border: column j shows position 6 + (j + 0.5) / 2 - 0.5.
    expected = 6 + (np.arange(1, 15) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(zoomed[0, 8, 1:15, 0], expected, atol=1e-5)


def test_gradient_reaches_only_the_cropped_pixels():
    gradient = jax.grad(lambda x: crop_and_zoom(x, jnp.array([[2, 3]]), 4, 4).sum())(
        images(1, 8, 1)
    )
    inside = np.zeros((8, 8), bool)
    inside[2:6, 3:7] = True
    assert np.all(gradient[0, :, :, 0][inside] > 0)
    assert not np.any(gradient[0, :, :, 0][~inside])


def test_target_is_the_filtered_mask_clipped_without_gradient():
    image, mask = images(), images(channels=1, seed=1)
    filtered = guided_filter(grey_guide(image), mask, 3, 1e-3)
    target = teacher_target(image, mask, radius=3)
    np.testing.assert_allclose(target, np.clip(filtered, 1e-6, 1 - 1e-6), atol=1e-6)
    np.testing.assert_allclose(
        teacher_target(image, mask, filtered=False, eps=0.1), np.clip(mask, 0.1, 0.9), atol=1e-6
    )
    for filtered in (True, False):
        of_mask = jax.grad(lambda m, f=filtered: teacher_target(image, m, filtered=f).sum())
        gradient = jax.jit(of_mask)(mask)
        assert not np.any(gradient)


def test_target_lies_strictly_between_zero_and_one():
    image = images()
    mask = (images(channels=1, seed=1) > 0.5).astype(jnp.float32)
    target = teacher_target(image, mask, radius=2, filter_eps=1e-6)
    assert float(target.min()) > 0
    assert float(target.max()) < 1
