"""The configuration of a training run: every field with the paper's value as its default.

Experiments under ``configs/`` start from :func:`default_config` and change what they are about.
"""

import math
from collections.abc import Callable
from typing import Any

import ml_collections
from ml_collections import ConfigDict

from sempart_jax.evaluation.protocols import FOREGROUND_RULES
from sempart_jax.models.networks import NETWORKS, SELFMASK

SCHEDULES = ("constant", "step", "polynomial")
"""How the learning rate can change."""

LAUNCH_FIELDS = ("distributed", "coordinator_address", "num_processes", "process_id")
"""How the processes of a run find each other; what is trained does not depend on them."""

RESUMABLE_FIELDS = (
    *LAUNCH_FIELDS,
    "steps",
    "epochs",
    "log",
    "checkpoint",
    "data.train",
    "pseudo_masks",
    "data.workers",
    "data.cache_gigabytes",
    "backbone.weights",
    "selfmask.remat",
    "validation",
)
"""Fields that may differ when a run is resumed: they say how long, from where and how often, and
change no learned parameter. Images and weights may move; other contents are refused elsewhere."""

PROCESS_FIELDS = (
    *LAUNCH_FIELDS,
    "data.train",
    "data.workers",
    "data.cache_gigabytes",
    "pseudo_masks",
    "backbone.weights",
)
"""Fields that may differ between the processes of one run: what lies where on each machine."""


def default_config() -> ConfigDict:
    """Return the configuration of the full method at 320 px on DUTS-TR."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 8  # over all devices
    config.accumulation = 1  # parts of each device's images, one after the other: less memory
    config.epochs = 30
    config.steps = 0  # 0: as many as the epochs take

    config.distributed = False  # several processes train together, see docs/scaling.md
    config.coordinator_address = ""  # HOST:PORT of process 0; empty: as the launcher says
    config.num_processes = 0  # 0: as the launcher says
    config.process_id = -1  # of this process, from 0; -1: as the launcher says

    config.network = "sempart"  # or found, selfmask: see models/networks.py

    config.backbone = ConfigDict()
    config.backbone.name = "dino_vits8"  # or handcrafted, which needs no weights
    config.backbone.weights = ""  # a file; empty: download
    config.backbone.dtype = "float32"  # or bfloat16

    config.data = ConfigDict()
    config.data.train = "data/DUTS"  # any folder of images, or DUTS as its authors lay it out
    config.data.image_size = 320
    config.data.resize_size = 355  # short side before the random crop
    config.data.workers = 0  # processes; 0: threads of this one
    config.data.cache_gigabytes = 0.0  # of resized images, kept from epoch to epoch
    config.pseudo_masks = ""  # folder that segment has written for these images; selfmask only

    config.augmentation = ConfigDict()
    config.augmentation.enabled = True
    config.augmentation.flip_probability = 0.5
    config.augmentation.jitter_probability = 0.8
    config.augmentation.brightness = 0.4
    config.augmentation.contrast = 0.4
    config.augmentation.saturation = 0.2
    config.augmentation.hue = 0.1
    config.augmentation.grayscale_probability = 0.2
    config.augmentation.blur_probability = 0.0
    config.augmentation.smallest_scale = 1.0  # below: images shrink at random, in their mean colour

    config.loss = ConfigDict()
    config.loss.tau = 0.4
    config.loss.eps = 1e-6
    config.loss.sigma = 1.0
    config.loss.weights = ConfigDict()
    config.loss.weights.ncut = 1.0
    config.loss.weights.gtv_fine = 1.0
    config.loss.weights.gtv_coarse = 1.0
    config.loss.weights.consistency = 1.0
    config.loss.weights.ncut_crop = 0.01
    config.loss.weights.equivariance = 0.01

    config.multiscale = ConfigDict()
    config.multiscale.enabled = True
    config.multiscale.crop_fraction = 0.5
    config.multiscale.filtered_teacher = True

    config.found = ConfigDict()
    config.found.tau = 0.3  # cosine above which a patch is background
    config.found.background_steps = 100  # that learn from the background, before self-training
    config.found.refinement_weight = 1.5
    config.found.self_weight = 4.0

    config.selfmask = ConfigDict()
    config.selfmask.queries = 20
    config.selfmask.decoder_layers = 6
    config.selfmask.remat = False  # compute the encoder's blocks again for gradients: less memory
    config.selfmask.ranking_weight = 1.0
    config.selfmask.unmatched_weight = 1.0  # 0: only the matched query learns its mask

    config.guided_filter = ConfigDict()
    config.guided_filter.radius = 9
    config.guided_filter.eps = 1e-3

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "constant"  # or step, polynomial
    config.optimizer.decay_steps = 0  # of step: between two decays; of polynomial: 0 is the run
    config.optimizer.decay_rate = 0.95  # of step
    config.optimizer.decay_power = 0.9  # of polynomial

    config.validation = ConfigDict()
    config.validation.images = ""  # folder; empty: no validation, the last checkpoint is the result
    config.validation.masks = ""
    config.validation.every_steps = 0  # 0: before the first and after the last step
    config.validation.foreground_rule = "batch"  # or image, none: see evaluation/protocols.py

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.keep = 3

    config.log = ConfigDict()
    config.log.every_steps = 50
    config.log.panels_every_steps = 1000
    config.log.panel_images = 6

    config.health = ConfigDict()
    config.health.collapse_steps = 500  # in a row with a mean mask below or above these
    config.health.lowest_mean_mask = 0.01
    config.health.highest_mean_mask = 0.99
    return config


def check_config(config: ConfigDict) -> None:
    """Check the values of a configuration.

    Args:
        config: as :func:`default_config` returns it, with other values.

    Raises:
        ValueError: names every bad field, its value and what it may be.
    """

    def lookup(field: str) -> Any:
        value = config
        for part in field.split("."):
            value = value[part]
        return value

    problems = []

    def require(field: str, holds: bool, wanted: str) -> None:
        if not holds:
            problems.append(f"config.{field} must be {wanted}, got {lookup(field)!r}")

    for field in (
        "batch_size",
        "accumulation",
        "data.image_size",
        "data.resize_size",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "log.every_steps",
        "health.collapse_steps",
        "selfmask.queries",
        "selfmask.decoder_layers",
    ):
        require(field, lookup(field) >= 1, "at least 1")
    for field in (
        "steps",
        "epochs",
        "data.workers",
        "data.cache_gigabytes",
        "log.panels_every_steps",
        "log.panel_images",
        "validation.every_steps",
        "guided_filter.radius",
        "seed",
        "found.background_steps",
        "found.refinement_weight",
        "found.self_weight",
        "selfmask.ranking_weight",
        "selfmask.unmatched_weight",
        "optimizer.decay_steps",
        "optimizer.decay_power",
    ):
        require(field, lookup(field) >= 0, "at least 0")
    for field in (
        "loss.eps",
        "loss.sigma",
        "guided_filter.eps",
        "optimizer.learning_rate",
        "optimizer.eps",
    ):
        require(field, lookup(field) > 0, "above 0")
    for field in (
        "augmentation.flip_probability",
        "augmentation.jitter_probability",
        "augmentation.grayscale_probability",
        "augmentation.blur_probability",
        "health.lowest_mean_mask",
        "health.highest_mean_mask",
    ):
        require(field, 0 <= lookup(field) <= 1, "between 0 and 1")
    require(
        "health.lowest_mean_mask",
        config.health.lowest_mean_mask < config.health.highest_mean_mask,
        f"below health.highest_mean_mask ({config.health.highest_mean_mask})",
    )
    for field in ("optimizer.b1", "optimizer.b2"):
        require(field, 0 <= lookup(field) < 1, "at least 0 and below 1")
    for field in ("brightness", "contrast", "saturation"):
        require(f"augmentation.{field}", config.augmentation[field] >= 0, "at least 0")
    require("augmentation.hue", 0 <= config.augmentation.hue <= 0.5, "between 0 and 0.5")
    for field in config.loss.weights:
        require(f"loss.weights.{field}", config.loss.weights[field] >= 0, "at least 0")
    require("optimizer.weight_decay", config.optimizer.weight_decay >= 0, "at least 0")
    scale = config.augmentation.smallest_scale
    require("augmentation.smallest_scale", 0 < scale <= 1, "above 0 and at most 1")
    require("found.tau", -1 <= config.found.tau < 1, "a cosine, at least -1 and below 1")
    require("network", config.network in NETWORKS, f"one of {', '.join(NETWORKS)}")
    learns_from_masks = config.network == SELFMASK
    require(
        "pseudo_masks",
        bool(config.pseudo_masks) == learns_from_masks,
        "the folder that `segment` has written for the training images"
        if learns_from_masks
        else f"empty where config.network is {config.network}, which learns from no masks",
    )
    schedule = config.optimizer.schedule
    require("optimizer.schedule", schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
    if schedule == "step":
        require("optimizer.decay_steps", config.optimizer.decay_steps >= 1, "at least 1")
    require("optimizer.decay_rate", 0 < config.optimizer.decay_rate <= 1, "above 0 and at most 1")
    require("loss.tau", -1 <= config.loss.tau < 1, "a cosine, at least -1 and below 1")
    require("loss.eps", config.loss.eps < 0.5, "below 0.5")
    require("multiscale.crop_fraction", 0 < config.multiscale.crop_fraction <= 1, "in (0, 1]")
    require(
        "backbone.dtype",
        config.backbone.dtype in ("float32", "bfloat16"),
        "'float32' or 'bfloat16'",
    )
    require(
        "data.resize_size",
        config.data.resize_size >= config.data.image_size,
        f"at least data.image_size ({config.data.image_size})",
    )
    require("steps", bool(config.steps or config.epochs), "above 0 where config.epochs is 0")
    require(
        "validation.masks",
        bool(config.validation.images) == bool(config.validation.masks),
        "given together with config.validation.images, or neither",
    )
    require(
        "validation.foreground_rule",
        config.validation.foreground_rule in FOREGROUND_RULES,
        f"one of {FOREGROUND_RULES}",
    )
    _check_launch(config, require)
    if problems:
        raise ValueError("\n".join(problems))


def _check_launch(config: ConfigDict, require: Callable[[str, bool, str], None]) -> None:
    unset = {"coordinator_address": "", "num_processes": 0, "process_id": -1}
    for field, value in unset.items():
        set_for_nothing = config[field] != value and not config.distributed
        require(field, not set_for_nothing, f"{value!r} where config.distributed is off")
    host, _, port = config.coordinator_address.rpartition(":")
    require(
        "coordinator_address",
        not config.coordinator_address
        or (bool(host) and port.isdecimal() and 0 < int(port) < 65536),
        "HOST:PORT of process 0 with a port from 1 to 65535, or empty",
    )
    require("num_processes", config.num_processes >= 0, "at least 0")
    count = config.num_processes or math.inf
    require("process_id", -1 <= config.process_id < count, "from 0 to config.num_processes - 1")


def changed_fields(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Name the fields that stand against resuming a run under another configuration.

    Args:
        old: configuration that the run was started with.
        new: configuration asked for now.

    Returns:
        Lines ``field: old -> new``, without :data:`RESUMABLE_FIELDS`; but how long a run is stands
        among them where its learning rate falls until its end.
    """
    before, after = flatten(old), flatten(new)
    resumable_fields = set(RESUMABLE_FIELDS)
    if new.optimizer.schedule == "polynomial" and not new.optimizer.decay_steps:
        # The learning rate of every step follows from how many there will be.
        resumable_fields -= {"steps", "epochs"}
    lines = []
    for field in sorted(before.keys() | after.keys()):
        resumable = any(field == f or field.startswith(f"{f}.") for f in resumable_fields)
        if not resumable and before.get(field) != after.get(field):
            lines.append(f"{field}: {before.get(field)!r} -> {after.get(field)!r}")
    return lines


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    """Turn nested fields into one dictionary with dotted names."""
    fields: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields
