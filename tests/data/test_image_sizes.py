import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sempart_jax.data.image_sizes import center_crop, resize_short_side, resized_crop
from sempart_jax.data.images import read_image


def triangle_resize(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Antialiased bilinear sampling of one axis: a triangle as wide as the larger pixel."""
    length = image.shape[axis]
    scale = length / size
    width = max(scale, 1.0)
    centers = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length)[None] + 0.5 - centers[:, None]) / width
    weights = np.maximum(0.0, 1.0 - distance)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)


@pytest.mark.parametrize("shape", [(40, 61, 3), (61, 40, 3), (7, 9, 3), (50, 23)])
def test_resize_is_antialiased_bilinear(shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    resized = resize_short_side(image, 17)
    expected = triangle_resize(image.astype(np.float64), resized.shape[0], 0)
    expected = triangle_resize(expected, resized.shape[1], 1)
    assert resized.dtype == np.uint8
    # PIL rounds to whole levels after each of its two passes.
    assert np.abs(resized - expected).max() <= 1.01


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_resized_shape(height, width, size):
    resized = resize_short_side(np.zeros((height, width, 3), np.uint8), size)
    assert min(resized.shape[:2]) == size
    long = size * max(height, width) // min(height, width)
    assert max(resized.shape[:2]) == long
    assert (resized.shape[1] > resized.shape[0]) <= (width > height)


def test_resize_by_hand():
    assert resize_short_side(np.zeros((300, 400, 3), np.uint8), 355).shape == (355, 473, 3)
    assert resize_short_side(np.zeros((400, 267, 3), np.uint8), 355).shape == (531, 355, 3)
    image = np.zeros((20, 31, 3), np.uint8)
    assert resize_short_side(image, 20) is image


@pytest.mark.parametrize("channels", [(), (3,)])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_crop_is_that_of_the_resized_image_in_every_bit(channels, data):
    shape = data.draw(st.sampled_from([(1, 1), (23, 90), (90, 41), (60, 60), (7, 50)]))
    resize_size = data.draw(st.sampled_from([1, 16, 20, 50]))
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, *channels), dtype=np.uint8)
    resized = resize_short_side(pixels, resize_size)
    size = data.draw(st.integers(1, resize_size))
    top, left = (data.draw(st.integers(0, side - size)) for side in resized.shape[:2])
    crop = resized_crop(Image.fromarray(pixels), resize_size, top, left, size)
    np.testing.assert_array_equal(crop, resized[top : top + size, left : left + size])


def test_crops_of_photographs_in_every_bit(reference_data):
    paths = sorted((reference_data / "DUTS/DUTS-TR/DUTS-TR-Image").glob("*.jpg"))[:20]
    for path in paths:
        image = read_image(path)
        resized = resize_short_side(image, 355)
        top, left = resized.shape[0] - 320, (resized.shape[1] - 320) // 2
        crop = resized_crop(Image.fromarray(image), 355, top, left, 320)
        np.testing.assert_array_equal(crop, resized[top : top + 320, left : left + 320])


def test_center_crop_rounds_halves_to_even():
    rows = np.arange(100).reshape(10, 10)
    # (5 - 2) / 2 = 1.5 -> 2 and (7 - 2) / 2 = 2.5 -> 2
    np.testing.assert_array_equal(center_crop(rows[:5, :7], 2), rows[2:4, 2:4])
    colour = np.arange(9 * 8 * 3).reshape(9, 8, 3)
    np.testing.assert_array_equal(center_crop(colour, 8), colour[0:8])
    np.testing.assert_array_equal(center_crop(colour, 4), colour[2:6, 2:6])


@pytest.mark.parametrize("size", [0, 6])
def test_center_crop_refuses(size):
    with pytest.raises(ValueError, match="resize it first"):
        center_crop(np.zeros((5, 9, 3), np.uint8), size)
