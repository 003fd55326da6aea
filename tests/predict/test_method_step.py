"""Methods without training on images of any size."""

import logging

import jax
import numpy as np
import pytest

from sempart_jax.data.image_sizes import resize
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.predict.method_step import MethodStep, enlarge


def left_half_red(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    return image


def reddest(features):
    return features.image[..., 0] > 0.5


def red_predictor(method=reddest, **options):
    return MethodStep(method, HandcraftedBackbone()).predictor({}, short_side=32, **options)


def test_masks_are_those_of_the_grid_at_the_size_of_each_image():
    seen = []

    def watched(features):
        seen.append((features.keys.shape[:3], features.image.shape))
        assert features.class_attention is None
        return reddest(features)

    predictor = red_predictor(watched, batch_size=2)
    images = [left_half_red(*size) for size in ((64, 64), (30, 40), (32, 32), (128, 128))]
    masks = predictor(images)
    # Two batches of squares, the second filled up, and one of 4:3.
    assert seen == [
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 5), (2, 4, 5, 3)),
    ]
    for image, mask in zip(images, masks, strict=True):
        assert mask.dtype == np.float32
        assert mask.shape == image.shape[:2]
        assert set(np.unique(mask)) == {0, 1}
    for index in (0, 2, 3):
        np.testing.assert_array_equal(masks[index], images[index][..., 0] > 0)


def test_the_mask_of_numbered_objects_is_all_of_them():
    def numbered(features):
        return reddest(features) * np.arange(1, 1 + features.image.shape[2])

    step = MethodStep(numbered, HandcraftedBackbone(), numbered=True)
    predictor = step.predictor({}, short_side=32)
    assert predictor.numbered
    assert not red_predictor().numbered
    image = left_half_red(64, 64)
    np.testing.assert_array_equal(predictor([image])[0], image[..., 0] > 0)


@pytest.mark.parametrize("size", [(40, 40), (37, 53), (8, 9), (5, 3), (1, 1), (1, 200)])
def test_pixels_have_the_value_of_the_patch_that_they_lie_in(size):
    mask = (np.random.default_rng(0).random((8, 10)) > 0.5).astype(np.float32)
    fitted = enlarge(mask, *size)
    # The patch under a pixel's middle.
    rows, columns = (
        ((2 * np.arange(side) + 1) * patches) // (2 * side)
        for side, patches in zip(size, mask.shape, strict=True)
    )
    np.testing.assert_array_equal(fitted, mask[np.ix_(rows, columns)])
    assert fitted.dtype == np.float32
    assert fitted.flags.writeable


def test_masks_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (7, 32, 40, 3)).astype(np.uint8))
    coarse = np.stack([resize(each, 4, 5)[..., 0] > 127.5 for each in images])
    expected = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for batch_size in (1, 3, 8):
        np.testing.assert_array_equal(red_predictor(batch_size=batch_size)(images), expected)


def test_neither_a_smaller_batch_nor_other_parameters_compile_anew(caplog):
    step = MethodStep(reddest, HandcraftedBackbone())
    images = list(np.zeros((5, 32, 32, 3), np.uint8))
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        step.predictor({}, short_side=32, batch_size=4)(images[:4])
        assert "Compiling" in caplog.text
        caplog.clear()
        step.predictor({}, short_side=32, batch_size=4)(images)
        assert "Compiling" not in caplog.text
