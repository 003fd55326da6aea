"""When a training is told that its masks are still flat."""

import re

import pytest

from sempart_jax.host.config_fields import flatten
from sempart_jax.runs.default_config import default_config
from sempart_jax.training.plateau import plateau_advice


def advise(ncuts, last_step, every):
    """What is said in a run that passes its steps on as many at a time."""
    starts = range(0, len(ncuts), every)
    return [plateau_advice(start + 1, ncuts[start : start + every], last_step) for start in starts]


@pytest.mark.parametrize("every", [1, 7, 50, 100])
@pytest.mark.parametrize("last_step", [1, 10, 95, 100])
def test_a_flat_run_is_told_once(every, last_step):
    said = advise([1.0] * last_step, last_step, every)
    assert len([advice for advice in said if advice is not None]) == 1


@pytest.mark.parametrize("left_at", [0, 5, 9])
def test_a_run_that_has_left_by_then_is_told_nothing(left_at):
    ncuts = [1.0] * left_at + [0.6] * (100 - left_at)
    assert advise(ncuts, 100, 5) == [None] * 20


def test_a_resumed_run_is_not_told_again():
    assert plateau_advice(11, [1.0] * 50, 100) is None


def test_the_advice_names_fields_that_there_are():
    advice = plateau_advice(1, [1.0] * 50, 300)
    fields = re.findall(r"--config\.([a-z_.]*[a-z_])", advice)
    assert len(fields) == 3
    assert set(fields) <= set(flatten(default_config()))
    assert "consistency_warmup_steps=100" in advice
