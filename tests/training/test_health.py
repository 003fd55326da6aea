"""When a run is stopped, and what the error says."""

import math
import re

import pytest

from sempart_jax.host.config_fields import flatten
from sempart_jax.runs.default_config import default_config
from sempart_jax.training.health import (
    CollapsedRunError,
    CollapseMonitor,
    HealthMonitor,
    UnhealthyRunError,
    plateau_advice,
)
from sempart_jax.training.pretraining_config import pretraining_config
from tests.training.advice import assert_advice_can_be_followed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["total", "grad_norm", "mean_fine"])
def test_value_that_is_not_finite_stops_the_run_at_once(name, value):
    monitor = HealthMonitor(collapse_steps=100)
    metrics = {"total": 1.0, "grad_norm": 2.0, "mean_fine": 0.3}
    monitor.check(6, metrics)
    with pytest.raises(UnhealthyRunError, match=rf"^step 7: not finite: {name}\..*learning_rate"):
        monitor.check(7, metrics | {name: value})


def test_all_values_that_are_not_finite_are_named():
    metrics = {"total": float("nan"), "ncut": 1.0, "grad_norm": float("inf"), "mean_fine": 0.5}
    with pytest.raises(UnhealthyRunError, match="not finite: total, grad_norm"):
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


OUTPUTS = 1000
HEALTHY = {"total": 6.0, "teacher_entropy": 4.0, "kl": 2.0, "mean_entropy": 6.5}
LOG_K = math.log(OUTPUTS)
UNIFORM = {
    "total": LOG_K,
    "teacher_entropy": 0.99995 * LOG_K,
    "kl": 1e-4 * LOG_K,
    "mean_entropy": LOG_K,
}
SINGLE = {"total": 1e-3, "teacher_entropy": 0.0, "kl": 1e-3, "mean_entropy": 0.01 * LOG_K}


def monitor() -> CollapseMonitor:
    return CollapseMonitor(OUTPUTS, collapse_steps=3, first_step=10)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_not_finite_stops_the_run_at_once_of_a_teacher(value):
    with pytest.raises(UnhealthyRunError, match=r"^step 2: not finite: kl"):
        monitor().check(2, HEALTHY | {"kl": value})


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            UNIFORM,
            r"uniform distribution .*\(entropy 0.99995 log K.* for 3 steps.*"
            r"a lower --config\.dino\.teach",
        ),
        (
            SINGLE,
            r"one output .*mean 0.01000 log K\) for 3 steps in a row.*"
            r"a higher --config\.dino\.teach",
        ),
    ],
)
def test_collapse_is_told_after_as_many_steps_as_asked_of_a_teacher(metrics, message):
    watch = monitor()
    for step in range(12):
        watch.check(step, metrics)
    with pytest.raises(CollapsedRunError, match=f"^step 12: .*{message}.*health.collapse_steps"):
        watch.check(12, metrics)


@pytest.mark.parametrize("collapsed", [UNIFORM, SINGLE])
def test_bad_steps_count_from_the_last_good_one_of_a_teacher(collapsed):
    watch = monitor()
    for step, metrics in enumerate([collapsed, collapsed, HEALTHY, collapsed, collapsed], 20):
        watch.check(step, metrics)


def test_two_kinds_of_collapse_do_not_add_up():
    watch = monitor()
    for step, metrics in enumerate([UNIFORM, SINGLE] * 4, 20):
        watch.check(step, metrics)


@pytest.mark.parametrize(
    "metrics",
    [
        HEALTHY,
        # A uniform teacher whom the student still has to follow is about to change.
        UNIFORM | {"kl": 0.01 * LOG_K},
        # Sharp for each image, and different for different ones, is what is wanted.
        SINGLE | {"mean_entropy": 0.5 * LOG_K},
    ],
)
def test_healthy_runs_go_on(metrics):
    watch = monitor()
    for step in range(100):
        watch.check(step, metrics)


@pytest.mark.parametrize("metrics", [UNIFORM, SINGLE, HEALTHY | {"kl": float("nan")}])
def test_advice_can_be_followed_to_the_letter_of_a_teacher(metrics):
    watch = CollapseMonitor(OUTPUTS, collapse_steps=1, first_step=0)
    with pytest.raises(UnhealthyRunError) as stopped:
        watch.check(1, metrics)
    assert_advice_can_be_followed(str(stopped.value), pretraining_config())


def advise(ncuts, last_step, every):
    """What is said in a run that passes its steps on as many at a time."""
    starts = range(0, len(ncuts), every)
    return [plateau_advice(start + 1, ncuts[start : start + every], last_step) for start in starts]


@pytest.mark.parametrize("every", [1, 7, 50, 100])
@pytest.mark.parametrize("last_step", [1, 10, 95, 100])
def test_a_flat_run_is_told_once(every, last_step):
    said = advise([1.0] * last_step, last_step, every)
    assert len([advice for advice in said if advice is not None]) == 1


@pytest.mark.parametrize(("left_at", "steps"), [(0, 200), (99, 200), (99, 1000), (199, 2000)])
def test_a_run_that_has_left_by_then_is_told_nothing(left_at, steps):
    assert not any(advise([1.0] * left_at + [0.6] * (steps - left_at), steps, 5))


@pytest.mark.parametrize(("steps", "told_at"), [(30, 30), (200, 100), (1000, 100), (2000, 200)])
def test_a_run_is_told_after_a_tenth_of_the_steps_and_not_too_soon(steps, told_at):
    said = advise([1.0] * steps, steps, 1)
    assert [step for step, advice in enumerate(said, 1) if advice] == [told_at]
    assert f"after {told_at} steps" in said[told_at - 1]


def test_a_single_flat_step_is_no_plateau():
    assert not any(advise([0.8] * 99 + [1.0] + [0.8] * 100, 200, 5))


def test_a_resumed_run_is_not_told_again():
    assert plateau_advice(101, [1.0] * 100, 200) is None


def test_the_advice_names_fields_that_there_are():
    advice = plateau_advice(1, [1.0] * 100, 300)
    fields = re.findall(r"--config\.([a-z_.]*[a-z_])", advice)
    assert len(fields) == 3
    assert set(fields) <= set(flatten(default_config()))
    assert "consistency_warmup_steps=100" in advice
