"""When a pretraining is stopped, and what the error says."""

import math

import pytest

from sempart_jax.training.collapse import CollapseMonitor
from sempart_jax.training.health import CollapsedRunError, UnhealthyRunError
from sempart_jax.training.pretraining_config import pretraining_config
from tests.training.advice import assert_advice_can_be_followed

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
def test_value_that_is_not_finite_stops_the_run_at_once(value):
    with pytest.raises(UnhealthyRunError, match=r"^step 2: kl not finite"):
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
def test_collapse_is_told_after_as_many_steps_as_asked(metrics, message):
    watch = monitor()
    for step in range(12):
        watch.check(step, metrics)
    with pytest.raises(CollapsedRunError, match=f"^step 12: .*{message}.*health.collapse_steps"):
        watch.check(12, metrics)


@pytest.mark.parametrize("collapsed", [UNIFORM, SINGLE])
def test_bad_steps_count_from_the_last_good_one(collapsed):
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
def test_advice_can_be_followed_to_the_letter(metrics):
    watch = CollapseMonitor(OUTPUTS, collapse_steps=1, first_step=0)
    with pytest.raises(UnhealthyRunError) as stopped:
        watch.check(1, metrics)
    assert_advice_can_be_followed(str(stopped.value), pretraining_config())
