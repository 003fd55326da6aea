"""Scores that PySODMetrics computes: their extremes, their means, and their edge cases."""

import dataclasses
import sys

import numpy as np
import pytest

from sempart_jax.metrics.sod import ExtraScores, extra_metrics


@pytest.fixture(autouse=True)
def py_sod_metrics(request):
    if request.node.name != "test_missing_package_is_named":
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


def test_perfect_and_opposite_masks():
    _, truth = scene(0)
    right = extra_metrics([(truth.astype(np.float32), truth)])
    # The enhanced-alignment measure divides by the number of pixels less one, and its mean
    # includes threshold 0, where everything is foreground.
    best = truth.size / (truth.size - 1)
    assert right.mae == 0.0
    assert right.weighted_f == pytest.approx(1.0)
    assert right.s_measure == pytest.approx(1.0)
    assert right.max_e_measure == pytest.approx(best)
    assert right.mean_e_measure == pytest.approx(best * (255 + 0.25) / 256)
    wrong = extra_metrics([(~truth, truth)])
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
    assert extra_metrics([(prediction, truth)]).mae == pytest.approx(expected, rel=1e-9)


def test_predictions_are_stretched_as_in_published_tables():
    prediction, truth = scene(2)
    faint = extra_metrics([(0.2 * prediction + 0.3, truth)])
    whole = extra_metrics([(prediction, truth)])
    for name in ("mae", "weighted_f", "s_measure", "max_e_measure"):
        assert getattr(faint, name) == pytest.approx(getattr(whole, name), abs=0.02)


def test_images_of_any_size_are_averaged_and_read_one_at_a_time():
    pairs = [scene(3), scene(4, size=(50, 45))]
    single = [dataclasses.asdict(extra_metrics([pair])) for pair in pairs]
    both = dataclasses.asdict(extra_metrics(pair for pair in pairs))
    assert both.pop("images") == 2
    both.pop("max_e_measure")  # the maximum of the mean
    for name, value in both.items():
        assert value == pytest.approx((single[0][name] + single[1][name]) / 2)


@pytest.mark.parametrize("side", ["right", "bottom", "none", "all"])
def test_ground_truths_at_the_edge_have_finite_scores(side):
    prediction, truth = scene(5)
    truth[:] = side == "all"
    if side == "right":
        truth[:, -1] = True
    if side == "bottom":
        truth[-1] = True
    scores = dataclasses.astuple(extra_metrics([(prediction, truth)]))
    assert np.all(np.isfinite(scores))


def test_soft_ground_truth_is_cut_at_one_half():
    prediction, truth = scene(6)
    grey = np.where(truth, 0.51, 0.5)
    assert extra_metrics([(prediction, grey)]) == extra_metrics([(prediction, truth)])


def test_errors_are_clear():
    prediction, truth = scene(7)
    with pytest.raises(ValueError, match="no image"):
        extra_metrics([])
    pairs = [(prediction, truth), (255 * prediction, truth)]
    with pytest.raises(ValueError, match="after 1 images: prediction has values"):
        extra_metrics(iter(pairs))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "py_sod_metrics", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sempart_jax\[metrics\]'"):
        extra_metrics([(np.zeros((2, 2)), np.zeros((2, 2)))])


def test_every_score_is_named():
    prediction, truth = scene(8)
    scores = extra_metrics([(prediction, truth)])
    assert isinstance(scores, ExtraScores)
    assert all(isinstance(value, (int, float)) for value in dataclasses.astuple(scores))
