"""What is said where memory does not suffice."""

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from sempart_jax.host.out_of_memory import MEMORY_ERRORS, describe_out_of_memory

EXHAUSTED = jax.errors.JaxRuntimeError(
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes.\nBuffers: many"
)


@pytest.fixture
def values(monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    return values


def test_a_host_that_has_no_more_is_told(values):
    with pytest.raises(MEMORY_ERRORS) as caught:
        np.zeros((2**24, 2**24))
    told = describe_out_of_memory(caught.value)
    assert told.startswith("out of memory (Unable to allocate 2.00 PiB")
    assert "docs/troubleshooting.md" in told
    assert describe_out_of_memory(MemoryError()).startswith("out of memory (the system gives no")


@pytest.mark.parametrize(
    ("fields", "side"), [({}, "data.image_size"), ({"crops": {}}, "crops.global_size")]
)
def test_a_training_is_told_which_fields_take_less(values, fields, side):
    config_flags.DEFINE_config_dict("config", ConfigDict(fields), flag_values=values)
    values(["program"])
    told = describe_out_of_memory(EXHAUSTED)
    assert "while trying to allocate 99 bytes." in told
    assert "\n" not in told
    for field in ("accumulation", "batch_size", side):
        assert f"--config.{field}" in told


def test_other_programs_are_told_their_own_flags(values):
    flags.DEFINE_integer("batch_size", 8, "Images.", flag_values=values)
    flags.DEFINE_integer("resolution", 320, "Pixels.", flag_values=values)
    values(["program"])
    assert "Take a lower --batch_size and --resolution;" in describe_out_of_memory(EXHAUSTED)


def test_other_failures_of_a_device_are_left_alone():
    assert describe_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: broken")) is None
