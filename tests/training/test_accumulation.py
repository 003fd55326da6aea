"""Gradient accumulation as a field of the configuration."""

import jax
import pytest

from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.synthetic import write_scenes
from sempart_jax.runs.default_config import RESUMABLE_FIELDS, check_config, default_config
from sempart_jax.runs.run_config import changed_fields
from sempart_jax.training import segmentation
from sempart_jax.training.loop import check_devices
from sempart_jax.training.segmentation import SegmentationTask


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


def test_it_reaches_the_step(tmp_path, monkeypatch):
    """What the step does with it is tested in two_tricks/test_accumulation.py."""
    given = {}
    monkeypatch.setattr(segmentation, "make_train_step", lambda *_, **fields: given.update(fields))
    config = default_config()
    config.backbone.name = "handcrafted"
    config.accumulation = 2
    write_scenes(tmp_path, 1, size=40, seed=0)
    SegmentationTask(config, ImageFiles([*tmp_path.rglob("images/*")], tmp_path), 1)
    assert given["accumulation"] == 2


def test_micro_batches_that_are_not_equal_are_refused():
    config = default_config()
    config.batch_size, config.accumulation = 4 * jax.device_count(), 3
    with pytest.raises(ValueError, match=r"config\.accumulation must divide the 4 images"):
        check_devices(config)
