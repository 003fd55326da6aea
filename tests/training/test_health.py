"""When a run is stopped, and what the error says."""

import pytest

from sempart_jax.runs.default_config import default_config
from sempart_jax.training.health import CollapsedRunError, HealthMonitor, UnhealthyRunError
from tests.training.advice import assert_advice_can_be_followed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["total", "grad_norm", "mean_fine"])
def test_value_that_is_not_finite_stops_the_run_at_once(name, value):
    monitor = HealthMonitor(collapse_steps=100)
    metrics = {"total": 1.0, "grad_norm": 2.0, "mean_fine": 0.3}
    monitor.check(6, metrics)
    with pytest.raises(UnhealthyRunError, match=rf"^step 7: {name} not finite.*learning_rate"):
        monitor.check(7, metrics | {name: value})


def test_all_values_that_are_not_finite_are_named():
    metrics = {"total": float("nan"), "ncut": 1.0, "grad_norm": float("inf"), "mean_fine": 0.5}
    with pytest.raises(UnhealthyRunError, match="total, grad_norm not finite"):
        HealthMonitor(collapse_steps=1).check(1, metrics)


@pytest.mark.parametrize(("mean", "side"), [(0.0099, "background"), (0.9901, "foreground")])
def test_collapse_is_told_after_as_many_steps_as_asked(mean, side):
    monitor = HealthMonitor(collapse_steps=3)
    monitor.check(1, {"mean_fine": mean})
    monitor.check(2, {"mean_fine": mean})
    message = rf"step 3: .*all {side} \(mean {mean:.4f}\) for 3 steps in a row.*health.collapse_st"
    with pytest.raises(CollapsedRunError, match=message):
        monitor.check(3, {"mean_fine": mean})


def test_bad_steps_count_from_the_last_good_one():
    monitor = HealthMonitor(collapse_steps=3)
    for step, mean in enumerate([0.0, 0.0, 0.5, 0.0, 0.0, 0.5, 1.0, 1.0]):
        monitor.check(step, {"mean_fine": mean})
    with pytest.raises(UnhealthyRunError, match="step 8"):
        monitor.check(8, {"mean_fine": 1.0})


def test_masks_that_swing_between_both_ends_have_collapsed_too():
    monitor = HealthMonitor(collapse_steps=2)
    monitor.check(1, {"mean_fine": 0.0})
    with pytest.raises(UnhealthyRunError, match="all foreground"):
        monitor.check(2, {"mean_fine": 1.0})


def test_bounds_are_good_themselves_and_can_be_set():
    monitor = HealthMonitor(collapse_steps=1, lowest=0.2, highest=0.6)
    monitor.check(1, {"mean_fine": 0.2})
    monitor.check(2, {"mean_fine": 0.6})
    for mean in (0.19, 0.61):
        with pytest.raises(UnhealthyRunError, match="collapsed"):
            monitor.check(3, {"mean_fine": mean})


@pytest.mark.parametrize("mean", [0.0, 1.0, float("nan")])
def test_advice_can_be_followed_to_the_letter(mean):
    with pytest.raises(UnhealthyRunError) as stopped:
        HealthMonitor(collapse_steps=1).check(1, {"mean_fine": mean})
    assert_advice_can_be_followed(str(stopped.value), default_config())
