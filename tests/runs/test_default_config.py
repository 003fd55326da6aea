"""Default configuration, its checks, and the experiments under ``configs/``."""

import ast
import json
import re
import runpy

import pytest
from ml_collections import ConfigDict

from sempart_jax.runs.default_config import (
    RESUMABLE_FIELDS,
    check_config,
    default_config,
    resumable_fields,
    with_whole_patches,
)
from sempart_jax.runs.run_config import changed_fields as changed_but_for
from tests.conftest import REPOSITORY

# How a backbone is pretrained has a configuration of its own, and a test of it.
EXPERIMENTS = sorted(
    {path.stem for path in (REPOSITORY / "configs").glob("*.py")} - {"dino_pretrain"}
)


def changed(fields):
    config = default_config()
    config.update_from_flattened_dict(fields)
    return config


def changed_fields(old, new):
    return changed_but_for(old, new, resumable_fields(new))


def flat(config, prefix=""):
    fields = {}
    for name, value in config.to_dict().items() if isinstance(config, ConfigDict) else config:
        if isinstance(value, dict):
            fields |= flat(value.items(), f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_a_configuration_and_says_how_to_run_it(name):
    path = REPOSITORY / "configs" / f"{name}.py"
    config = runpy.run_path(str(path))["get_config"]()
    if name in ("selfmask", "builtin"):
        with pytest.raises(ValueError, match=r"config\.pseudo_masks must be the folder"):
            check_config(config)
        check_config(ConfigDict({**config, "pseudo_masks": "masks"}))
    else:
        check_config(config)
    assert flat(config).keys() == flat(default_config()).keys()
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    command = "make demo" if name == "demo" else f"--config configs/{name}.py"
    assert command in docstring
    assert "Expected" in docstring


def test_default_holds_the_numbers_of_the_paper():
    # Two tricks (arXiv 2404.03392), Sec. 5.1 and App. A; sigma and eps of Sempart Eq. 5-9.
    paper = {
        "batch_size": 8,
        "epochs": 30,
        "backbone.name": "dino_vits8",
        "data.image_size": 320,
        "data.resize_size": 355,
        "augmentation.flip_probability": 0.5,
        "augmentation.jitter_probability": 0.8,
        "augmentation.brightness": 0.4,
        "augmentation.contrast": 0.4,
        "augmentation.saturation": 0.2,
        "augmentation.hue": 0.1,
        "augmentation.grayscale_probability": 0.2,
        "loss.tau": 0.4,
        "loss.eps": 1e-6,
        "loss.sigma": 1.0,
        "loss.weights.ncut": 1.0,
        "loss.weights.gtv_fine": 1.0,
        "loss.weights.gtv_coarse": 1.0,
        "loss.weights.consistency": 1.0,
        "loss.weights.ncut_crop": 0.01,
        "loss.weights.equivariance": 0.01,
        "loss.weights.principal": 0.0,
        "multiscale.crop_fraction": 0.5,
        "guided_filter.radius": 9,
        "guided_filter.eps": 1e-3,
        "optimizer.learning_rate": 1e-4,
        "optimizer.b1": 0.9,
        "optimizer.b2": 0.99,
        "optimizer.eps": 1e-8,
        "optimizer.weight_decay": 0.0,
        "optimizer.average_decay": 0.0,
    }
    fields = flat(default_config())
    assert {name: fields[name] for name in paper} == paper


def test_default_is_made_anew_each_time():
    default_config().loss.weights.ncut = 7.0
    assert default_config().loss.weights.ncut == 1.0


BAD_VALUES = [
    ("batch_size", 0),
    ("data.image_size", 0),
    ("data.resize_size", 319),
    ("checkpoint.every_steps", 0),
    ("checkpoint.keep", 0),
    ("log.every_steps", 0),
    ("health.collapse_steps", 0),
    ("steps", -1),
    ("epochs", -1),
    ("data.workers", -1),
    ("log.panels_every_steps", -1),
    ("log.panel_images", -1),
    ("validation.every_steps", -1),
    ("guided_filter.radius", -1),
    ("seed", -1),
    ("seed", 2**63),
    ("loss.sigma", float("inf")),
    ("optimizer.weight_decay", float("inf")),
    ("loss.eps", 0.0),
    ("loss.eps", 0.5),
    ("loss.sigma", 0.0),
    ("guided_filter.eps", 0.0),
    ("optimizer.learning_rate", 0.0),
    ("optimizer.learning_rate", float("nan")),
    # As float32, infinite.
    ("optimizer.learning_rate", 10.0**39),
    ("optimizer.eps", 0.0),
    ("optimizer.b1", 1.0),
    ("optimizer.b2", -0.1),
    ("optimizer.average_decay", 1.0),
    ("optimizer.average_decay", -0.1),
    ("optimizer.weight_decay", -1e-4),
    ("augmentation.flip_probability", 1.1),
    ("augmentation.jitter_probability", -0.1),
    ("augmentation.grayscale_probability", 2.0),
    ("augmentation.brightness", -0.1),
    ("augmentation.contrast", -0.1),
    ("augmentation.saturation", -0.1),
    ("augmentation.hue", 0.6),
    ("augmentation.hue", -0.1),
    ("health.lowest_mean_mask", -0.1),
    ("health.lowest_mean_mask", 0.995),
    ("health.highest_mean_mask", 1.1),
    ("loss.tau", 1.0),
    ("loss.tau", -1.1),
    *((f"loss.weights.{name}", -1.0) for name in default_config().loss.weights),
    ("multiscale.crop_fraction", 0.0),
    ("multiscale.crop_fraction", 1.1),
    ("backbone.dtype", "float16"),
    ("head.dtype", "float16"),
    ("head.channels", 1),
    ("loss.consistency_warmup_steps", -1),
    ("validation.foreground_rule", "majority"),
    ("backbone.features", "key"),
    ("backbone.position_directions", -1),
    ("network", "resnet"),
    ("pseudo_masks", "masks"),
    ("augmentation.blur_probability", 1.1),
    ("augmentation.smallest_scale", 0.0),
    ("augmentation.smallest_scale", 1.1),
    ("found.tau", 1.0),
    ("found.background_steps", -1),
    ("found.refinement_weight", -1.0),
    ("found.self_weight", -1.0),
    ("selfmask.queries", 0),
    ("selfmask.decoder_layers", 0),
    ("selfmask.ranking_weight", -1.0),
    ("selfmask.unmatched_weight", -1.0),
    ("unet.channels", 0),
    ("unet.cross_entropy_weight", -1.0),
    ("unet.iou_weight", -1.0),
    ("optimizer.schedule", "cosine"),
    ("optimizer.decay_steps", -1),
    ("optimizer.decay_rate", 0.0),
    ("optimizer.decay_power", -1.0),
    ("num_processes", -1),
    ("process_id", -2),
    # Without config.distributed they would be ignored.
    ("coordinator_address", "node0:1234"),
    ("num_processes", 2),
    ("process_id", 0),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES)
def test_bad_value_is_refused_with_its_field(field, value):
    with pytest.raises(
        ValueError, match=rf"config\.{field} must be .*, got {re.escape(repr(value))}"
    ):
        check_config(changed({field: value}))


GOOD_VALUES = [
    {"batch_size": 1},
    {"steps": 5, "epochs": 0},
    {"data.resize_size": 320},
    {"loss.tau": -1.0},
    {"loss.weights.ncut": 0.0},
    {"guided_filter.radius": 0},
    {"log.panels_every_steps": 0, "log.panel_images": 0},
    {"optimizer.b1": 0.0},
    {"multiscale.crop_fraction": 1.0},
    {"augmentation.hue": 0.5, "augmentation.flip_probability": 1.0},
    {"backbone.dtype": "bfloat16"},
    {"head.dtype": "bfloat16"},
    {"validation.images": "a", "validation.masks": "b"},
    {"distributed": True},
    {"distributed": True, "coordinator_address": "[::1]:65535", "process_id": 3},
    {
        "distributed": True,
        "coordinator_address": "node0:1",
        "num_processes": 2,
        "process_id": 1,
    },
]


@pytest.mark.parametrize("fields", GOOD_VALUES)
def test_value_at_its_bound_is_taken(fields):
    check_config(changed(fields))


def test_only_sempart_has_a_coarse_mask_to_draw_to_the_principal_component():
    check_config(changed({"loss.weights.principal": 1.0}))
    message = r"config\.loss\.weights\.principal must be 0 if config\.network is found"
    with pytest.raises(ValueError, match=message):
        check_config(changed({"network": "found", "loss.weights.principal": 1.0}))


@pytest.mark.parametrize("network", ["found", "selfmask"])
def test_the_other_networks_have_no_head_in_half_precision(network):
    fields = {"network": network, "head.dtype": "bfloat16"}
    fields |= {"pseudo_masks": "masks"} if network == "selfmask" else {}
    message = rf"config\.head\.dtype must be 'float32' if config\.network is {network}"
    with pytest.raises(ValueError, match=message):
        check_config(changed(fields))


@pytest.mark.parametrize(("field", "value"), [("features", "keys"), ("position_directions", 1)])
def test_an_encoder_that_is_trained_has_no_choice_of_features(field, value):
    fields = {"network": "selfmask", "pseudo_masks": "masks", f"backbone.{field}": value}
    message = rf"config\.backbone\.{field} must be .* where config\.network is selfmask"
    with pytest.raises(ValueError, match=message):
        check_config(changed(fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "dino_vits8"),
        ("weights", "dino.pth"),
        ("dtype", "bfloat16"),
        ("features", "keys"),
        ("position_directions", 1),
    ],
)
def test_a_network_without_a_backbone_has_no_choice_of_it(field, value):
    fields = {"network": "unet", "backbone.name": "none", "pseudo_masks": "masks"}
    check_config(changed(fields))
    message = rf"config\.backbone\.{field} must be .* unet, which has no backbone, got {value!r}"
    with pytest.raises(ValueError, match=message):
        check_config(changed(fields | {f"backbone.{field}": value}))


def test_the_other_networks_need_a_backbone():
    with pytest.raises(ValueError, match="unknown backbone 'none': choose one of dino_vits8"):
        check_config(changed({"backbone.name": "none"}))


@pytest.mark.parametrize("address", ["node0", ":1234", "node0:", "node0:0", "node0:65536"])
def test_a_coordinator_has_a_host_and_a_port(address):
    fields = {"distributed": True, "coordinator_address": address}
    with pytest.raises(ValueError, match=r"config\.coordinator_address must be HOST:PORT"):
        check_config(changed(fields))


def test_a_process_is_one_of_those_that_there_are():
    fields = {"distributed": True, "num_processes": 2, "process_id": 2}
    with pytest.raises(ValueError, match=r"config\.process_id must be from 0 to .* - 1, got 2"):
        check_config(changed(fields))


def test_no_steps_and_no_epochs_is_refused():
    with pytest.raises(ValueError, match=r"config\.steps must be above 0 if config\.epochs"):
        check_config(changed({"epochs": 0}))


@pytest.mark.parametrize("given", ["validation.images", "validation.masks"])
def test_validation_needs_images_and_masks(given):
    with pytest.raises(ValueError, match=r"config\.validation\.masks must be set if and only if"):
        check_config(changed({given: "folder"}))


def test_all_bad_values_are_named_together():
    with pytest.raises(ValueError, match=r"batch_size") as caught:
        check_config(changed({"batch_size": 0, "loss.sigma": -1.0, "backbone.dtype": "int8"}))
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == [
        "config.batch_size",
        "config.backbone.dtype",
        "config.loss.sigma",
    ]


def test_changed_fields_are_listed_in_order_with_both_values():
    new = changed({"seed": 3, "loss.weights.ncut": 2.0, "backbone.name": "handcrafted"})
    assert changed_fields(default_config(), new) == [
        "backbone.name: 'dino_vits8' -> 'handcrafted'",
        "loss.weights.ncut: 1.0 -> 2.0",
        "seed: 0 -> 3",
    ]


def test_field_that_one_side_lacks_is_a_change():
    new = default_config()
    new.extra = 1
    assert changed_fields(default_config(), new) == ["extra: None -> 1"]
    assert changed_fields(new, default_config()) == ["extra: 1 -> None"]


def test_resumable_fields_may_change():
    fields = flat(default_config())
    free = {k for k in fields if any(k == f or k.startswith(f"{f}.") for f in RESUMABLE_FIELDS)}
    assert {name.split(".")[0] for name in free} == {
        "distributed",
        "coordinator_address",
        "num_processes",
        "process_id",
        "steps",
        "epochs",
        "log",
        "checkpoint",
        "data",
        "pseudo_masks",
        "backbone",
        "selfmask",
        "validation",
        "health",
    }
    other = {int: 99, float: 0.5, str: "other", bool: True}
    new = changed({name: other[type(fields[name])] for name in free})
    assert changed_fields(default_config(), new) == []
    assert not free & {"backbone.name", "data.image_size", "data.resize_size"}
    assert not free & {"backbone.dtype", "head.dtype"}


def test_a_learning_rate_that_falls_until_the_end_fixes_the_end():
    fields = {"optimizer.schedule": "polynomial", "steps": 5}
    longer = fields | {"steps": 6}
    assert changed_fields(changed(fields), changed(longer)) == ["steps: 5 -> 6"]
    own_end = {"optimizer.decay_steps": 100}
    assert changed_fields(changed(fields | own_end), changed(longer | own_end)) == []


def test_step_decay_needs_its_interval():
    with pytest.raises(
        ValueError, match=r"config\.optimizer\.decay_steps must be at least 1, got 0"
    ):
        check_config(changed({"optimizer.schedule": "step"}))


def test_prefix_of_a_name_does_not_make_a_field_resumable():
    new = default_config()
    new.steps_in_flight = 1
    assert changed_fields(default_config(), new) == ["steps_in_flight: None -> 1"]


def test_configuration_survives_json():
    config = default_config()
    stored = ConfigDict(json.loads(config.to_json_best_effort()))
    assert changed_fields(stored, config) == []


def test_the_image_size_is_rounded_to_the_patch(caplog):
    config = changed({"backbone.name": "dinov2_vits14", "data.image_size": 320})
    rounded = with_whole_patches(config)
    assert (rounded.data.image_size, config.data.image_size) == (322, 320)
    assert "config.data.image_size is set to 322 instead of 320" in caplog.text
    assert with_whole_patches(default_config()) == default_config()
