"""Frames and foreground rules."""

import numpy as np
import pytest
from PIL import Image

from sempart_jax.metrics.protocols import (
    BATCH_RULE_SIZE,
    PROTOCOLS,
    centre_box,
    inverted_masks,
)
from tests.evaluation.scenes import rectangle


def flat(mean, shape=(2, 3)):
    return np.full(shape, mean, np.float32)


def test_image_rule_decides_for_each_image():
    masks = [flat(0.4), flat(0.75, (4, 1)), flat(0.5)]
    np.testing.assert_array_equal(inverted_masks(masks, "image"), [False, True, False])


@pytest.mark.parametrize(("low", "inverted"), [(0.0, False), (0.25, False), (0.375, True)])
def test_batch_rule_decides_by_the_common_mean(low, inverted):
    np.testing.assert_array_equal(inverted_masks([flat(low), flat(0.75)], "batch"), [inverted] * 2)


def test_batch_rule_weighs_pixels_not_images():
    # (12 * 0.75 + 2 * 0) / 14 > 1/2, while the mean of the means is 3/8
    masks = [flat(0.75, (3, 4)), flat(0.0, (1, 2))]
    np.testing.assert_array_equal(inverted_masks(masks, "batch"), [True, True])


def test_batch_rule_looks_at_eight_images():
    masks = [flat(0.0)] * BATCH_RULE_SIZE + [flat(0.75)]
    np.testing.assert_array_equal(inverted_masks(masks, "batch"), [False] * 8 + [True])
    assert BATCH_RULE_SIZE == 8


def test_none_leaves_all():
    np.testing.assert_array_equal(inverted_masks([flat(1.0)], "none"), [False])


def test_inverted_masks_are_told_from_their_inverse():
    masks = list(np.random.default_rng(0).uniform(0, 0.8, (20, 5, 5)).astype(np.float32))
    for rule in ("batch", "image"):
        inverse = inverted_masks([1 - mask for mask in masks], rule)
        np.testing.assert_array_equal(inverse, ~inverted_masks(masks, rule))


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'majority': choose one of batch, image, none"):
        inverted_masks([], "majority")


@pytest.mark.parametrize(("size", "side"), [(10, 6), (20, 12), (11, 7), (320, 192)])
def test_centre_box_is_in_the_middle(size, side):
    margin = (size - side) // 2
    expected = rectangle(margin, margin, side, side, size=size)
    np.testing.assert_array_equal(centre_box(size, size), expected)


def test_centre_box_follows_the_shape_of_the_image():
    box = centre_box(10, 20)
    assert box.shape == (10, 20)
    np.testing.assert_array_equal(np.flatnonzero(box.any(1)), range(2, 8))
    np.testing.assert_array_equal(np.flatnonzero(box.any(0)), range(4, 16))
    assert centre_box(3, 5, 1.0).all()


def test_native_takes_the_whole_image():
    image = np.zeros((7, 9, 3), np.uint8)
    assert PROTOCOLS["native"].frame(image) is image
    assert PROTOCOLS["native"].foreground_rule == "image"


@pytest.mark.parametrize("shape", [(335, 335), (400, 600), (701, 340), (336, 1000)])
def test_crop320_is_the_middle_of_the_short_side_335(shape):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (shape[0] // 20 + 1, shape[1] // 20 + 1)).astype(np.uint8)
    grey = np.kron(blocks, np.ones((20, 20), np.uint8))[: shape[0], : shape[1]]
    height, width = shape
    scale = 335 / min(shape)
    size = (335, int(width * scale)) if height <= width else (int(height * scale), 335)
    resized = np.asarray(Image.fromarray(grey).resize(size[::-1], Image.Resampling.BILINEAR))
    # torchvision's CenterCrop rounds halves to the even one
    top, left = (round((side - 320) / 2) for side in size)
    protocol = PROTOCOLS["crop320"]
    framed = protocol.frame(grey)
    np.testing.assert_array_equal(framed, resized[top : top + 320, left : left + 320])
    # An RGB image of these grey levels is cut alike.
    np.testing.assert_array_equal(protocol.frame(np.stack([grey] * 3, -1))[..., 1], framed)
    assert protocol.foreground_rule == "batch"
