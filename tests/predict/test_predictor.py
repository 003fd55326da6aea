"""Images of any size, which are seen in few shapes, batch by batch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempart_jax.predict.predictor import (
    ASPECT_RATIOS,
    Predictor,
    input_shapes,
    input_size,
    stretch,
)

SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((320, 320), (320, 320)),
        ((1, 1), (320, 320)),
        ((300, 400), (320, 424)),  # 426.7 is nearer to 53 patches than to 54
        ((400, 267), (480, 320)),
        ((1080, 1920), (320, 568)),
        ((20_000, 1), (568, 320)),
        ((310, 300), (320, 320)),
    ],
)
def test_photographs_keep_their_shape(image, expected):
    assert input_size(*image, 320, 8) == expected


@given(SIDES, SIDES, st.integers(4, 40), st.sampled_from([8, 14, 16]))
def test_sides_are_multiples_of_the_patch_and_turn_with_the_image(height, width, patches, patch):
    size = input_size(height, width, patches * patch, patch)
    assert min(size) == patches * patch
    assert all(side % patch == 0 for side in size)
    if height != width:
        assert input_size(width, height, patches * patch, patch) == size[::-1]


@given(st.floats(1, max(ASPECT_RATIOS)))
def test_stretching_is_bounded(ratio):
    height, width = input_size(10_000, round(10_000 * ratio), 3200, 8)
    # Half the way, on a logarithmic scale, between the ratios that are farthest apart.
    assert abs(math.log(width / height / ratio)) < math.log(4 / 3) / 2 + 0.01


@pytest.mark.parametrize(
    ("short_side", "patch_size"), [(320, 8), (320, 16), (4, 2), (1, 8), (97, 16)]
)
def test_many_sizes_are_few_shapes(short_side, patch_size):
    shapes = input_shapes(short_side, patch_size)
    sizes = np.random.default_rng(0).integers(1, 5000, (500, 2)).tolist()
    assert {input_size(h, w, short_side, patch_size) for h, w in sizes} == shapes
    assert len(shapes) == 7 if short_side == 320 else len(shapes) <= 7


def red(inputs):
    """Stands in for what predicts: the mask is the red of what it sees."""
    return lambda: inputs[..., 0].astype(np.float32) / 255


def ramp(height, width):
    """Red that rises from left to right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    return image


def test_a_batch_of_one_shape_is_begun_before_that_of_another_is_fetched():
    """And the masks keep the order of the images."""
    sizes = [(32, 32), (32, 48), (64, 64), (32, 48), (32, 32), (48, 32)]
    images = [np.full((*size, 3), place, np.uint8) for place, size in enumerate(sizes)]
    batches, fetched = [], []

    def start(inputs):
        batches.append(inputs.shape[:3])
        place = len(batches)

        def fetch():
            assert len(batches) == min(place + 1, 4)
            fetched.append(place)
            return red(inputs)()

        return fetch

    predictor = Predictor(start, short_side=32, patch_size=8, batch_size=2)
    masks = predictor(images)
    assert batches == [(2, 32, 32), (1, 32, 32), (2, 32, 48), (1, 48, 32)]
    assert fetched == [1, 2, 3, 4]
    for place, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        assert mask.shape == size
        np.testing.assert_allclose(mask, place / 255, rtol=1e-6)
    assert predictor([]) == []


def test_a_mask_is_stretched_as_its_image_is():
    predictor = Predictor(red, short_side=32, patch_size=8, batch_size=4)
    sizes = [(60, 80), (32, 32), (80, 60), (90, 120), (500, 500), (20, 28)]
    for mask, size in zip(predictor([ramp(*size) for size in sizes]), sizes, strict=True):
        assert mask.dtype == np.float32
        # To the size at which it is seen and back, a ramp is still that ramp.
        np.testing.assert_allclose(mask, ramp(*size)[..., 0] / 255, atol=1.5 / 32)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(predictor([image])[0], red(image)())


def test_masks_stay_in_range_when_they_are_stretched():
    mask = (np.random.default_rng(0).random((8, 8)) > 0.5).astype(np.float32)
    fitted = stretch(mask, 37, 5)
    assert fitted.shape == (37, 5)
    assert 0 <= fitted.min() <= fitted.max() <= 1
