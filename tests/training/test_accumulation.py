"""Gradient accumulation as a field of the configuration."""

import re

import numpy as np
import pytest

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.runs.default_config import RESUMABLE_FIELDS, check_config, default_config
from sempart_jax.runs.run_config import changed_fields
from tests.commands import run_train
from tests.test_train import read_metrics


def test_the_field_is_checked():
    config = default_config()
    assert config.accumulation == 1
    config.accumulation = 0
    with pytest.raises(ValueError, match=r"config\.accumulation must be at least 1, got 0"):
        check_config(config)


def test_a_run_cannot_be_resumed_with_other_micro_batches():
    """They change what batch norm sees, and so what is learned."""
    other = default_config()
    other.accumulation = 2
    changes = changed_fields(default_config(), other, RESUMABLE_FIELDS)
    assert changes == ["accumulation: 1 -> 2"]


@pytest.mark.slow
def test_training_in_micro_batches(tmp_path):
    write_scenes(tmp_path, 4, size=40, seed=0)
    for accumulation in (1, 2):
        workdir = tmp_path / f"run{accumulation}"
        # One step: a loop that is compiled so quickly is slow.
        finished = run_train(workdir, tmp_path / "images", steps=1, accumulation=accumulation)
        assert finished.returncode == 0, finished.stderr
    # Micro-batches are normalised by themselves: near, and not the same.
    whole, parts = (
        [row["train/total"] for row in read_metrics(tmp_path / f"run{n}")] for n in (1, 2)
    )
    np.testing.assert_allclose(parts, whole, rtol=0.2)
    assert parts != whole


@pytest.mark.slow
def test_micro_batches_that_are_not_equal_are_refused(tmp_path):
    write_scenes(tmp_path, 4, size=40, seed=0)
    finished = run_train(tmp_path / "run", tmp_path / "images", steps=1, accumulation=3)
    assert finished.returncode == 1
    assert re.search(r"config\.accumulation must divide the 4 images", finished.stderr)
    assert "Traceback" not in finished.stderr
