"""Scores that PySODMetrics computes: their extremes, their means, and their edge cases."""

import dataclasses
import sys

import numpy as np
import pytest

from sempart_jax.metrics.sod import ExtraScores, average, sod_scores


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
    return average([sod_scores(prediction, truth) for prediction, truth in pairs])


def test_perfect_and_opposite_masks():
    _, truth = scene(0)
    right = scored((truth.astype(np.float32), truth))
    # The enhanced-alignment measure divides by the number of pixels less one, and its mean
    # includes threshold 0, where everything is foreground.
    best = truth.size / (truth.size - 1)
    assert right.mae == 0.0
    assert right.weighted_f == pytest.approx(1.0)
    assert right.s_measure == pytest.approx(1.0)
    assert right.max_e_measure == pytest.approx(best)
    assert right.mean_e_measure == pytest.approx(best * (255 + 0.25) / 256)
    wrong = scored((~truth, truth))
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
    assert scored((prediction, truth)).mae == pytest.approx(expected, rel=1e-9)


def test_predictions_are_stretched_as_in_published_tables():
    prediction, truth = scene(2)
    faint = scored((0.2 * prediction + 0.3, truth))
    whole = scored((prediction, truth))
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
    return ExtraScores(results["mae"], results["wfm"], results["sm"], curve.max(), curve.mean())


def test_images_of_any_size_are_averaged():
    pairs = [scene(3), scene(4, size=(50, 45)), scene(9)]
    expected = dataclasses.astuple(whole_set_at_once(pairs))
    np.testing.assert_allclose(dataclasses.astuple(scored(*pairs)), expected, rtol=1e-12)


@pytest.mark.parametrize("side", ["right", "bottom", "none", "all"])
def test_ground_truths_at_the_edge_have_finite_scores(side):
    prediction, truth = scene(5)
    truth[:] = side == "all"
    if side == "right":
        truth[:, -1] = True
    if side == "bottom":
        truth[-1] = True
    scores = dataclasses.astuple(scored((prediction, truth)))
    assert np.all(np.isfinite(scores))


def test_soft_ground_truth_is_cut_at_one_half():
    prediction, truth = scene(6)
    grey = np.where(truth, 0.51, 0.5)
    assert scored((prediction, grey)) == scored((prediction, truth))


def test_masks_out_of_range_are_refused():
    prediction, truth = scene(7)
    with pytest.raises(ValueError, match="prediction has values"):
        sod_scores(255 * prediction, truth)


def test_scores_without_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[metrics\]'"):
        sod_scores(np.zeros((2, 2)), np.zeros((2, 2)))


def test_every_score_is_named():
    prediction, truth = scene(8)
    scores = scored((prediction, truth))
    assert isinstance(scores, ExtraScores)
    assert all(isinstance(value, (int, float)) for value in dataclasses.astuple(scores))
