"""Default configuration of pretraining, and its checks."""

import runpy

import pytest

from sempart_jax.host.config_fields import flatten
from sempart_jax.runs.default_config import check_config, default_config
from sempart_jax.runs.run_config import changed_fields
from sempart_jax.training.pretraining_config import (
    RESUMABLE_FIELDS,
    check_pretraining_config,
    pretrained_backbones,
    pretraining_config,
)
from tests.commands import REPOSITORY


def changed(fields):
    config = pretraining_config()
    config.update_from_flattened_dict(fields)
    return config


def test_default_holds_the_numbers_of_dino():
    # arXiv 2104.14294, Sec. 3.2 and Appendix C
    paper = {
        "crops.global_size": 224,
        "crops.local_size": 96,
        "crops.local_count": 8,
        "crops.global_smallest_area": 0.4,
        "crops.local_smallest_area": 0.05,
        "crops.local_largest_area": 0.4,
        "augmentation.jitter_probability": 0.8,
        "augmentation.grayscale_probability": 0.2,
        "augmentation.solarize_probability": 0.2,
        "head.outputs": 65536,
        "head.hidden": 2048,
        "head.bottleneck": 256,
        "dino.student_temperature": 0.1,
        "dino.first_teacher_temperature": 0.04,
        "dino.teacher_temperature": 0.07,
        "dino.teacher_temperature_epochs": 30.0,
        "dino.teacher_momentum": 0.996,
        "dino.center_momentum": 0.9,
        "optimizer.learning_rate": 5e-4,
        "optimizer.warmup_epochs": 10.0,
        "optimizer.final_learning_rate": 1e-6,
        "optimizer.weight_decay": 0.04,
        "optimizer.final_weight_decay": 0.4,
        "optimizer.clip_norm": 3.0,
        "optimizer.frozen_last_layer_epochs": 1.0,
        "backbone.drop_path": 0.1,
    }
    fields = flatten(pretraining_config())
    assert {name: fields[name] for name in paper} == paper


def test_the_experiment_is_good_and_of_pretraining_alone():
    config = runpy.run_path(str(REPOSITORY / "configs" / "dino_pretrain.py"))["get_config"]()
    check_pretraining_config(config)
    assert config.backbone.name == "vit_tiny8"
    with pytest.raises(ValueError, match=r"'pretraining', but sempart_jax\.train needs 'segm"):
        check_config(config)
    with pytest.raises(ValueError, match=r"'segmentation', but sempart_jax\.pretrain needs"):
        check_pretraining_config(default_config())


@pytest.mark.parametrize("name", pretrained_backbones())
def test_every_vision_transformer_can_be_pretrained(name):
    check_pretraining_config(changed({"backbone.name": name}))


BAD_VALUES = [
    ("backbone.name", "handcrafted"),
    ("backbone.dtype", "float16"),
    ("backbone.drop_path", 1.0),
    ("backbone.drop_path", -0.1),
    ("batch_size", 0),
    ("accumulation", 0),
    ("data.image_size", 0),
    ("data.image_size", 100),
    ("data.resize_size", 248),
    ("crops.global_size", 100),
    ("crops.global_size", 0),
    ("crops.local_size", 4),
    ("crops.local_count", -1),
    ("crops.global_smallest_area", 0.0),
    ("crops.local_smallest_area", 1.1),
    ("crops.local_largest_area", 0.01),
    ("augmentation.flip_probability", 1.1),
    ("augmentation.jitter_probability", -0.1),
    ("augmentation.grayscale_probability", 2.0),
    ("augmentation.solarize_probability", 2.0),
    ("augmentation.brightness", -1.0),
    ("augmentation.contrast", -1.0),
    ("augmentation.saturation", -1.0),
    ("augmentation.hue", 0.6),
    ("augmentation.smallest_blur", 0.0),
    ("augmentation.largest_blur", 0.05),
    ("head.outputs", 1),
    ("head.hidden", 0),
    ("head.bottleneck", 0),
    ("dino.student_temperature", 0.0),
    ("dino.teacher_temperature", 0.0),
    ("dino.first_teacher_temperature", 0.0),
    ("dino.teacher_temperature_epochs", -1.0),
    ("dino.teacher_momentum", 1.1),
    ("dino.center_momentum", -0.1),
    ("optimizer.learning_rate", 0.0),
    ("optimizer.warmup_epochs", -1.0),
    ("optimizer.final_learning_rate", -1.0),
    ("optimizer.weight_decay", -1.0),
    ("optimizer.final_weight_decay", -1.0),
    ("optimizer.clip_norm", 0.0),
    ("optimizer.frozen_last_layer_epochs", -1.0),
    ("validation.every_steps", -1),
    ("health.collapse_steps", 0),
    ("seed", -1),
    ("num_processes", 2),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES)
def test_bad_value_is_refused_with_its_field(field, value):
    with pytest.raises(ValueError, match=rf"config\.{field} must be .*, got {value!r}"):
        check_pretraining_config(changed({field: value}))


@pytest.mark.parametrize("given", ["validation.images", "validation.masks"])
def test_validation_needs_images_and_masks(given):
    with pytest.raises(ValueError, match=r"config\.validation\.masks must be set if and only if"):
        check_pretraining_config(changed({given: "folder"}))


def test_a_run_may_move_but_not_become_longer():
    moved = {"data.train": "elsewhere", "data.workers": 3, "log.every_steps": 7, "accumulation": 4}
    moved["health.collapse_steps"] = 1000
    before = pretraining_config()
    assert changed_fields(before, changed(moved), RESUMABLE_FIELDS) == []
    longer = changed({"epochs": 200, "steps": 5})
    assert changed_fields(before, longer, RESUMABLE_FIELDS) == [
        "epochs: 100 -> 200",
        "steps: 0 -> 5",
    ]
