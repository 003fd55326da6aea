"""Saliency scores by counting, against the released implementation, image by image and at once."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.metrics.saliency import (
    F_THRESHOLDS,
    SaliencyScores,
    binarize,
    iou,
    max_f_beta,
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


def curves_by_passes(prediction, truth):
    """Precision, recall and F of one image, with one pass over its pixels for each threshold."""
    rows = []
    for k in range(255):
        above = prediction > prediction.dtype.type(k / 255)
        hits = int(np.sum(above & truth))
        precision = hits / int(above.sum()) if above.any() else 1.0
        recall = hits / int(truth.sum()) if truth.any() else 1.0
        product, total = 1.3 * precision * recall, 0.3 * precision + recall
        rows.append((precision, recall, product / total if total else 0.0))
    return np.array(rows).T


def max_f_by_passes(predictions, truths):
    curves = [curves_by_passes(p, t) for p, t in zip(predictions, truths, strict=True)]
    return np.mean(curves, axis=0)[2].max()


def scored(*pairs):
    scores = SaliencyScores()
    for prediction, truth in pairs:
        scores.update(prediction, truth)
    return scores


def assert_same(first, second):
    """Results agree up to the order of summation."""
    for name in ("accuracy", "iou", "max_f_beta", "mae", "f_curve", "precision", "recall"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-12)
    assert first.images == second.images


def test_golden_scores(golden):
    values = golden("metrics")
    prediction, truth = values["pred"][:, 0], values["gt"][:, 0]
    np.testing.assert_allclose(pixel_accuracy(prediction, truth), values["acc"], rtol=1e-6)
    np.testing.assert_allclose(iou(prediction, truth), values["iou"], rtol=1e-6)
    np.testing.assert_allclose(max_f_beta(prediction, truth), values["fmax"], rtol=1e-6)
    # Masks read from files are boolean.
    assert iou(prediction > 0.5, truth > 0.5) == iou(prediction, truth)
    assert pixel_accuracy(prediction > 0.5, truth > 0.5) == pixel_accuracy(prediction, truth)
    assert max_f_beta(prediction, truth > 0.5) == max_f_beta(prediction, truth)


def test_grey_ground_truth_is_cut_at_one_half_for_every_score(golden):
    # The released code takes ground truth > 0.5 for accuracy and IoU, but > 0 for F. The golden
    # ground truth is 0 or 1, where both agree; darkened, it tells them apart.
    values = golden("metrics")
    prediction, dark = values["pred"][:, 0], 0.4 * values["gt"][:, 0]
    np.testing.assert_allclose(max_f_beta(prediction, dark > 0), values["fmax"], rtol=1e-6)
    ours = max_f_beta(prediction, dark)
    np.testing.assert_allclose(ours, max_f_by_passes(prediction, dark > 0.5), rtol=1e-12)
    assert abs(ours - values["fmax"]) > 0.1
    assert iou(prediction, dark) == iou(prediction, np.zeros_like(dark))


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
    scores = scored((prediction, truth))
    np.testing.assert_allclose(scores.accuracy_per_image, expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(scores.iou_per_image, expected[:, 1], rtol=1e-12)
    np.testing.assert_allclose(pixel_accuracy(prediction, truth), expected[:, 0].mean())
    defined = expected[:, 1][~np.isnan(expected[:, 1])]
    mean = defined.mean() if defined.size else np.nan
    np.testing.assert_allclose(iou(prediction, truth), mean)
    result = scores.compute()
    curves = np.mean(
        [curves_by_passes(p, t) for p, t in zip(prediction, truth, strict=True)], axis=0
    )
    np.testing.assert_allclose(
        [result.precision, result.recall, result.f_curve], curves, rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(max_f_beta(prediction, truth), curves[2].max(), rtol=1e-12)
    distance = np.abs(prediction.astype(np.float64) - truth)
    np.testing.assert_allclose(result.mae, distance.mean(), rtol=1e-6)
    # Accuracy does not care which side is called foreground.
    other_side = scored((prediction <= 0.5, ~truth))
    np.testing.assert_allclose(other_side.accuracy_per_image, scores.accuracy_per_image)
    swapped = scored((truth, prediction))
    np.testing.assert_array_equal(swapped.iou_per_image, scores.iou_per_image)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_predictions_on_and_beside_thresholds_are_on_the_right_side(dtype):
    rng = np.random.default_rng(0)
    on = (np.arange(256) / 255).astype(dtype)
    values = np.concatenate([on, np.nextafter(on, dtype(0)), np.nextafter(on, dtype(1))])
    prediction = rng.permutation(np.tile(values, 5)).reshape(1, 60, 64)
    truth = rng.uniform(size=prediction.shape) < 0.2 + 0.6 * prediction
    result = scored((prediction, truth)).compute()
    expected = curves_by_passes(prediction[0], truth[0])
    np.testing.assert_allclose(
        [result.precision, result.recall, result.f_curve], expected, rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grey_levels_are_compared_as_integers_are(dtype):
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (50, 60), np.uint8)
    truth = rng.uniform(size=grey.shape) < 0.4
    result = scored((grey.astype(dtype) / dtype(255), truth)).compute()
    for k in range(255):
        above = grey > k
        hits = np.count_nonzero(above & truth)
        np.testing.assert_allclose(result.precision[k], hits / np.count_nonzero(above), rtol=1e-12)
        np.testing.assert_allclose(result.recall[k], hits / np.count_nonzero(truth), rtol=1e-12)


def test_thresholds_run_from_0_to_254():
    np.testing.assert_array_equal(F_THRESHOLDS, [k / 255 for k in range(255)])
    truth = np.zeros((1, 4, 4), bool)
    truth[0, 1:3] = True
    faint = np.where(truth, np.float32(1e-6), np.float32(0))
    curve = scored((faint, truth)).compute().f_curve
    np.testing.assert_array_equal(curve, np.eye(255)[0])
    assert max_f_beta(faint, truth) == 1.0
    np.testing.assert_array_equal(scored((truth, truth)).compute().f_curve, np.ones(255))


def test_f_beta_by_hand():
    prediction, truth = np.zeros((2, 1, 10, 10))
    truth[0, :4, :5] = 1  # 20 pixels
    prediction[0, 0, :8] = 0.9  # 5 of the 8 are right
    prediction[0, 1, :8] = 0.3  # 5 of these 8 as well
    low = 1.3 * (10 / 16) * (10 / 20) / (0.3 * (10 / 16) + 10 / 20)
    high = 1.3 * (5 / 8) * (5 / 20) / (0.3 * (5 / 8) + 5 / 20)
    expected = np.where(np.arange(255) < 77, low, high)  # 0.3 = 76.5 / 255
    expected[230:] = 0.0  # 0.9 = 229.5 / 255
    np.testing.assert_allclose(scored((prediction, truth)).compute().f_curve, expected)
    assert max_f_beta(prediction, truth) == pytest.approx(low)


def test_maximum_is_taken_of_the_mean_and_not_for_each_image():
    truth = np.zeros((2, 4, 4), bool)
    truth[:, :2] = True
    # Each image has a threshold that is right for it alone.
    prediction = np.where(truth, [[[0.4]], [[0.9]]], [[[0.1]], [[0.6]]])
    assert scored((prediction[0], truth[0])).compute().max_f_beta == 1.0
    assert scored((prediction[1], truth[1])).compute().max_f_beta == 1.0
    all_foreground = 1.3 * 0.5 / (0.3 * 0.5 + 1)
    assert max_f_beta(prediction, truth) == pytest.approx((1 + all_foreground) / 2)


@pytest.mark.parametrize(
    ("predicted", "true", "precision", "recall", "f_beta"),
    [(0, 0, 1, 1, 1), (0, 1, 1, 0, 0), (1, 0, 0, 1, 0), (1, 1, 1, 1, 1)],
)
def test_empty_and_full_masks(predicted, true, precision, recall, f_beta):
    result = scored((np.full((3, 4), predicted, np.float32), np.full((3, 4), bool(true)))).compute()
    np.testing.assert_array_equal(result.precision, np.full(255, precision))
    np.testing.assert_array_equal(result.recall, np.full(255, recall))
    np.testing.assert_array_equal(result.f_curve, np.full(255, f_beta))
    assert result.mae == abs(predicted - true)


def test_no_hit_at_all_counts_zero():
    mask = np.eye(4, dtype=bool)
    result = scored((mask, ~mask)).compute()
    assert result.max_f_beta == result.precision.max() == result.recall.max() == 0.0


def test_one_by_one_in_batches_and_merged_are_the_same():
    rng = np.random.default_rng(2)
    sizes = [(7, 5), (7, 5), (7, 5), (1, 30), (64, 3)]
    pairs = [(rng.uniform(size=size), rng.uniform(size=size) < 0.4) for size in sizes]
    pairs[1][1][:] = False
    pairs[1][0][:] *= 0.5
    one_by_one = scored(*pairs)
    batch = tuple(np.stack(masks) for masks in zip(*pairs[:3], strict=True))
    assert_same(scored(batch, *pairs[3:]).compute(), one_by_one.compute())
    first, second = scored(*pairs[:2]), scored(*pairs[2:])
    before = second.compute()
    first.merge(second)
    assert_same(first.compute(), one_by_one.compute())
    np.testing.assert_array_equal(first.iou_per_image, one_by_one.iou_per_image)
    np.testing.assert_array_equal(first.accuracy_per_image, one_by_one.accuracy_per_image)
    assert_same(second.compute(), before)
    # A result is not touched by what comes later, and an image counts as one whatever its size.
    halfway = scored(*pairs[:1])
    result = halfway.compute()
    curve = result.f_curve.copy()
    halfway.update(*pairs[4])
    np.testing.assert_array_equal(result.f_curve, curve)
    last = scored(pairs[4]).compute()
    np.testing.assert_allclose(halfway.compute().mae, (result.mae + last.mae) / 2)
    np.testing.assert_allclose(halfway.compute().f_curve, (curve + last.f_curve) / 2)


def test_a_few_numbers_of_each_image_are_kept():
    scores, masks = SaliencyScores(), np.random.default_rng(3).uniform(size=(2, 100, 50, 50))
    scores.update(*masks)
    before = len(pickle.dumps(scores))
    scores.update(*masks)
    assert len(pickle.dumps(scores)) - before < 100 * 100


def test_known_overlap():
    prediction, truth = np.zeros((2, 1, 4, 5), bool)
    prediction[0, 0:2, 0:3] = True  # 6 pixels, 2 of them right
    truth[0, 1:3, 1:3] = True  # 4 pixels
    assert iou(prediction, truth) == 2 / 8
    assert pixel_accuracy(prediction, truth) == 14 / 20
    assert max_f_beta(prediction, truth) == pytest.approx(1.3 / 3 / 2 / (0.3 / 3 + 1 / 2))


def test_images_with_an_empty_union_are_left_out_of_the_mean():
    prediction, truth = np.zeros((2, 3, 2, 2), bool)
    prediction[1, 0, 0] = truth[1, 0, 0] = True  # right
    truth[2] = True  # all missed
    scores = scored((prediction, truth))
    np.testing.assert_array_equal(scores.iou_per_image, [np.nan, 1.0, 0.0])
    assert iou(prediction, truth) == 0.5
    np.testing.assert_array_equal(scores.accuracy_per_image, [1.0, 1.0, 0.0])


def test_all_unions_empty_have_no_iou():
    empty = np.zeros((2, 3, 3), np.float32)
    assert np.isnan(iou(empty, empty))
    assert pixel_accuracy(empty, empty) == 1.0
    assert max_f_beta(empty, empty) == 1.0


def test_large_masks_are_counted_exactly():
    prediction = np.ones((1, 5000, 4001), bool)
    truth = prediction.copy()
    truth[0, 0, 0] = False
    result = scored((prediction, truth)).compute()
    assert result.iou == result.accuracy == result.precision[0] == 1 - 1 / truth.size
    np.testing.assert_allclose(result.mae, 1 / truth.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_half_is_background(dtype):
    mask = np.array([0.0, 0.5, np.nextafter(dtype(0.5), dtype(1)), 1.0], dtype)
    np.testing.assert_array_equal(binarize(mask), [False, False, True, True])


def test_boolean_mask_stays_as_it_is():
    mask = np.array([True, False])
    assert binarize(mask) is mask


def test_what_a_filter_overshoots_is_clipped():
    truth = np.eye(3, dtype=bool)
    result = scored((np.where(truth, 1.4, -0.4), truth)).compute()
    np.testing.assert_array_equal(result.f_curve, np.ones(255))
    assert result.mae == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.6, 255.0])
@pytest.mark.parametrize("place", [0, 1])
def test_values_out_of_range_are_refused_and_nothing_is_added(place, value):
    good = np.zeros((2, 2, 3))
    bad = good.copy()
    bad[1, 1, 1] = value
    scores = scored((good, good))
    name = ("prediction", "ground truth")[place]
    with pytest.raises(ValueError, match=rf"after 2 images: {name} has .*{value}.*\[0, 1\]"):
        scores.update(*((bad, good), (good, bad))[place])
    assert scores.compute().images == 2


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (4, 3)), r"\(3, 4\) and ground truth \(4, 3\) must have one shape"),
        (((1, 3, 4), (3, 4)), "must have one shape"),
        (((1, 3, 4, 1), (1, 3, 4, 1)), r"\[H, W\] or \[N, H, W\]"),
        (((0, 3, 4), (0, 3, 4)), "no pixels"),
        (((3, 0), (3, 0)), "no pixels"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_shapes_that_cannot_be_scored(shapes, message):
    with pytest.raises(ValueError, match=message):
        SaliencyScores().update(*map(np.zeros, shapes))


def test_no_image_has_no_scores():
    with pytest.raises(ValueError, match="no image has been scored"):
        SaliencyScores().compute()
