"""Scores that PySODMetrics computes: their extremes, their means, and their edge cases."""

import dataclasses
import sys

import numpy as np
import pytest

from sempart_jax.metrics.sod import ExtraScores, SodScores


@pytest.fixture(autouse=True)
def py_sod_metrics(request):
    if "without_package" not in request.node.name:
        pytest.importorskip("py_sod_metrics")


def scene(seed, size=(40, 60)):
    """A soft blob that ranges over [0, 1], and a rectangle near it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    distance = (rows - rng.integers(10, 25)) ** 2 + (columns - rng.integers(10, 40)) ** 2
    prediction = np.exp(-distance / 200)
    prediction = (prediction - prediction.min()) / np.ptp(prediction)
    truth = np.zeros(size, bool)
    truth[8:28, 10:40] = True
    return prediction, truth


def scored(*pairs):
    scores = SodScores()
    for prediction, truth in pairs:
        scores.update(prediction, truth)
    return scores


def test_perfect_and_opposite_masks():
    _, truth = scene(0)
    right = scored((truth.astype(np.float32), truth)).compute()
    # The enhanced-alignment measure divides by the number of pixels less one, and its mean
    # includes threshold 0, where everything is foreground.
    best = truth.size / (truth.size - 1)
    assert right.mae == 0.0
    assert right.weighted_f == pytest.approx(1.0)
    assert right.s_measure == pytest.approx(1.0)
    assert right.max_e_measure == pytest.approx(best)
    assert right.mean_e_measure == pytest.approx(best * (255 + 0.25) / 256)
    wrong = scored((~truth, truth)).compute()
    assert wrong.mae == 1.0
    assert wrong.weighted_f == pytest.approx(0.0, abs=1e-12)
    assert wrong.s_measure < 0.1
    # At threshold 0 all is foreground, which aligns with nothing.
    assert wrong.max_e_measure == pytest.approx(0.25 * best)


def test_mean_error_is_that_of_the_stretched_8_bit_prediction():
    prediction, truth = scene(1)
    prediction = 0.31 + 0.41 * prediction
    grey = np.floor(prediction * 255 + 0.5)
    stretched = (grey - grey.min()) / (grey.max() - grey.min())
    expected = np.abs(stretched - truth).mean()
    assert scored((prediction, truth)).compute().mae == pytest.approx(expected, rel=1e-9)


def test_predictions_are_stretched_as_in_published_tables():
    prediction, truth = scene(2)
    faint = scored((0.2 * prediction + 0.3, truth)).compute()
    whole = scored((prediction, truth)).compute()
    for name in ("mae", "weighted_f", "s_measure", "max_e_measure"):
        assert getattr(faint, name) == pytest.approx(getattr(whole, name), abs=0.02)


def whole_set_at_once(pairs):
    """All images through one instance of each measure, as the package is meant to be used."""
    import py_sod_metrics

    measures = [
        py_sod_metrics.MAE(),
        py_sod_metrics.WeightedFmeasure(),
        py_sod_metrics.Smeasure(),
        py_sod_metrics.Emeasure(),
    ]
    results = {}
    for measure in measures:
        for prediction, truth in pairs:
            measure.step(
                np.rint(255 * prediction).astype(np.uint8), np.where(truth, 255, 0).astype(np.uint8)
            )
        results |= measure.get_results()
    curve = results["em"]["curve"]
    return ExtraScores(
        results["mae"], results["wfm"], results["sm"], curve.max(), curve.mean(), len(pairs)
    )


def test_images_of_any_size_are_averaged():
    pairs = [scene(3), scene(4, size=(50, 45)), scene(9)]
    scores = scored(*pairs)
    expected = dataclasses.astuple(whole_set_at_once(pairs))
    np.testing.assert_allclose(dataclasses.astuple(scores.compute()), expected, rtol=1e-12)
    single = [scored(pair).compute() for pair in pairs]
    np.testing.assert_array_equal(scores.mae_per_image, [one.mae for one in single])
    np.testing.assert_array_equal(scores.weighted_f_per_image, [one.weighted_f for one in single])
    np.testing.assert_array_equal(scores.s_measure_per_image, [one.s_measure for one in single])


def test_one_by_one_in_batches_and_merged_are_the_same():
    pairs = [scene(10), scene(11), scene(12), scene(13, size=(31, 47))]
    whole = scored(*pairs)
    batch = tuple(np.stack(masks) for masks in zip(*pairs[:3], strict=True))
    assert scored(batch, pairs[3]).compute() == whole.compute()
    first, second = scored(*pairs[:1]), scored(*pairs[1:])
    before = second.compute()
    result = first.compute()
    first.merge(second)
    np.testing.assert_allclose(
        dataclasses.astuple(first.compute()), dataclasses.astuple(whole.compute()), rtol=1e-13
    )
    np.testing.assert_array_equal(first.mae_per_image, whole.mae_per_image)
    np.testing.assert_array_equal(first.weighted_f_per_image, whole.weighted_f_per_image)
    np.testing.assert_array_equal(first.s_measure_per_image, whole.s_measure_per_image)
    assert second.compute() == before
    assert result == scored(*pairs[:1]).compute()


@pytest.mark.parametrize("side", ["right", "bottom", "none", "all"])
def test_ground_truths_at_the_edge_have_finite_scores(side):
    prediction, truth = scene(5)
    truth[:] = side == "all"
    if side == "right":
        truth[:, -1] = True
    if side == "bottom":
        truth[-1] = True
    scores = dataclasses.astuple(scored((prediction, truth)).compute())
    assert np.all(np.isfinite(scores))


def test_soft_ground_truth_is_cut_at_one_half():
    prediction, truth = scene(6)
    grey = np.where(truth, 0.51, 0.5)
    assert scored((prediction, grey)).compute() == scored((prediction, truth)).compute()


def test_refused_masks_add_nothing():
    prediction, truth = scene(7)
    scores = scored((prediction, truth))
    before = scores.compute()
    with pytest.raises(ValueError, match="after 1 images: prediction has values"):
        scores.update(255 * prediction, truth)
    assert scores.compute() == before


def test_no_image_has_no_scores_without_package():
    with pytest.raises(ValueError, match="no image has been scored"):
        SodScores().compute()


def test_update_without_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[metrics\]'"):
        SodScores().update(np.zeros((2, 2)), np.zeros((2, 2)))


def test_every_score_is_named():
    prediction, truth = scene(8)
    scores = scored((prediction, truth)).compute()
    assert isinstance(scores, ExtraScores)
    assert all(isinstance(value, (int, float)) for value in dataclasses.astuple(scores))
