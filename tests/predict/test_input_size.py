"""Sizes at which the network sees images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sempart_jax.predict.input_size import ASPECT_RATIOS, FewShapesPredictor, input_size

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
        ((333, 500), (320, 480)),
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


def test_many_sizes_are_few_shapes():
    sizes = {input_size(h, w, 320, 8) for h in range(50, 1000, 23) for w in range(50, 1000, 29)}
    assert len(sizes) == 7


@pytest.mark.parametrize("name", ["height", "width", "short_side", "patch_size"])
def test_sizes_must_be_positive(name):
    sizes = {"height": 4, "width": 4, "short_side": 4, "patch_size": 4} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1 pixel, got 0"):
        input_size(**sizes)


def test_a_batch_of_one_shape_is_begun_before_that_of_another_is_fetched():
    """And the masks keep the order of the images."""
    sizes = [(32, 32), (32, 48), (64, 64), (32, 48), (32, 32), (48, 32)]
    images = [np.full((*size, 3), place, np.uint8) for place, size in enumerate(sizes)]
    batches, fetched = [], []

    class Watched(FewShapesPredictor):
        def start(self, inputs):
            batches.append(inputs.shape[:3])
            place = len(batches)

            def fetch():
                assert len(batches) == min(place + 1, 4)
                fetched.append(place)
                return inputs[..., 0] / np.float32(255)

            return fetch

    predictor = Watched(short_side=32, patch_size=8, batch_size=2)
    masks = predictor(images)
    assert batches == [(2, 32, 32), (1, 32, 32), (2, 32, 48), (1, 48, 32)]
    assert fetched == [1, 2, 3, 4]
    for place, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        assert mask.shape == size
        np.testing.assert_allclose(mask, place / 255, rtol=1e-6)
    assert predictor([]) == []
