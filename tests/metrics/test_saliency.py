"""Accuracy and intersection over union by counting, and against the released implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.metrics.saliency import (
    accuracy_per_image,
    binarize,
    iou,
    iou_per_image,
    pixel_accuracy,
)


def counted(prediction, truth):
    """Accuracy and IoU of one image, pixel by pixel."""
    right = both = either = 0
    for p, t in zip((prediction > 0.5).flat, (truth > 0.5).flat, strict=True):
        right += p == t
        both += p and t
        either += p or t
    return right / prediction.size, both / either if either else float("nan")


def test_golden_scores(golden):
    values = golden("metrics")
    prediction, truth = values["pred"][:, 0], values["gt"][:, 0]
    np.testing.assert_allclose(pixel_accuracy(prediction, truth), values["acc"], rtol=1e-6)
    np.testing.assert_allclose(iou(prediction, truth), values["iou"], rtol=1e-6)
    # Masks read from files are boolean.
    assert iou(prediction > 0.5, truth > 0.5) == iou(prediction, truth)
    assert pixel_accuracy(prediction > 0.5, truth > 0.5) == pixel_accuracy(prediction, truth)


@settings(deadline=None, max_examples=25)
@given(
    images=st.integers(1, 4),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_scores_equal_counting(images, height, width, share, seed):
    rng = np.random.default_rng(seed)
    prediction = rng.uniform(size=(images, height, width)).astype(np.float32)
    truth = rng.uniform(size=(images, height, width)) < share
    expected = np.array([counted(p, t) for p, t in zip(prediction, truth, strict=True)])
    np.testing.assert_allclose(accuracy_per_image(prediction, truth), expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(iou_per_image(prediction, truth), expected[:, 1], rtol=1e-12)
    np.testing.assert_allclose(pixel_accuracy(prediction, truth), expected[:, 0].mean())
    defined = expected[:, 1][~np.isnan(expected[:, 1])]
    mean = defined.mean() if defined.size else np.nan
    np.testing.assert_allclose(iou(prediction, truth), mean)
    # Accuracy does not care which side is called foreground.
    np.testing.assert_allclose(
        accuracy_per_image(prediction <= 0.5, ~truth), accuracy_per_image(prediction, truth)
    )
    np.testing.assert_array_equal(
        iou_per_image(truth, prediction), iou_per_image(prediction, truth)
    )


def test_known_overlap():
    prediction, truth = np.zeros((2, 1, 4, 5), bool)
    prediction[0, 0:2, 0:3] = True  # 6 pixels, 2 of them right
    truth[0, 1:3, 1:3] = True  # 4 pixels
    assert iou(prediction, truth) == 2 / 8
    assert pixel_accuracy(prediction, truth) == 14 / 20


def test_images_with_an_empty_union_are_left_out_of_the_mean():
    prediction, truth = np.zeros((2, 3, 2, 2), bool)
    prediction[1, 0, 0] = truth[1, 0, 0] = True  # right
    truth[2] = True  # all missed
    np.testing.assert_array_equal(iou_per_image(prediction, truth), [np.nan, 1.0, 0.0])
    assert iou(prediction, truth) == 0.5
    np.testing.assert_array_equal(accuracy_per_image(prediction, truth), [1.0, 1.0, 0.0])


def test_all_unions_empty_have_no_iou():
    empty = np.zeros((2, 3, 3), np.float32)
    assert np.isnan(iou(empty, empty))
    assert pixel_accuracy(empty, empty) == 1.0


def test_large_masks_are_counted_exactly():
    prediction = np.ones((1, 5000, 4001), bool)
    truth = prediction.copy()
    truth[0, 0, 0] = False
    assert iou(prediction, truth) == 1 - 1 / truth.size
    assert pixel_accuracy(prediction, truth) == 1 - 1 / truth.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_half_is_background(dtype):
    mask = np.array([0.0, 0.5, np.nextafter(dtype(0.5), dtype(1)), 1.0], dtype)
    np.testing.assert_array_equal(binarize(mask), [False, False, True, True])


def test_boolean_mask_stays_as_it_is():
    mask = np.array([True, False])
    assert binarize(mask) is mask
