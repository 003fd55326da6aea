"""The configuration of a training of masks: every field with the paper's value as its default.

Experiments under ``configs/`` start from :func:`default_config` and change what they are about.
"""

from absl import logging
from ml_collections import ConfigDict

from sempart_jax.metrics.protocols import FOREGROUND_RULES
from sempart_jax.networks.names import (
    BACKBONES,
    FEATURES,
    NETWORKS,
    NO_BACKBONE,
    SELFMASK,
    SEMPART,
    UNET,
    check_backbone,
)
from sempart_jax.runs import run_config

SCHEDULES = ("constant", "step", "polynomial")
"""How the learning rate can change."""

SEGMENTATION = "segmentation"
"""The task of these configurations."""

RESUMABLE_FIELDS = (
    *run_config.RESUMABLE_FIELDS,
    "pseudo_masks",
    "backbone.weights",
    "selfmask.remat",
    "validation",
)
"""Fields that may differ when a run is resumed: they say how long, from where and how often, and
change no learned parameter. Images and weights may move; other contents are refused elsewhere."""

PROCESS_FIELDS = (*run_config.PROCESS_FIELDS, "pseudo_masks", "backbone.weights")
"""Fields that may differ between the processes of one run: what lies where on each machine."""


def default_config() -> ConfigDict:
    """Return the configuration of the full method at 320 px on DUTS-TR."""
    config = run_config.run_config(SEGMENTATION)
    # sempart, found, selfmask, or unet, whose backbone is none: see networks/by_name.py
    config.network = "sempart"
    config.backbone.weights = ""  # a file; empty: download. The backbone handcrafted has none
    config.backbone.features = ""  # keys, queries, values or tokens; empty: as its family does best
    config.backbone.position_directions = 0  # of position bias that are projected out of them
    config.head = ConfigDict()
    config.head.dtype = "float32"  # or bfloat16; of the network sempart
    config.head.channels = 128  # of its fine branch; fewer train faster
    config.data.image_size = 320
    config.data.resize_size = 355  # short side before the random crop
    config.pseudo_masks = ""  # folder that segment has written for these images; selfmask and unet

    config.augmentation.enabled = True
    config.augmentation.blur_probability = 0.0
    config.augmentation.smallest_scale = 1.0  # below: images shrink at random, in their mean colour

    config.loss = ConfigDict()
    config.loss.tau = 0.4
    config.loss.eps = 1e-6
    config.loss.sigma = 1.0
    config.loss.consistency_warmup_steps = 0  # until which the weight of consistency rises from 0
    config.loss.weights = ConfigDict()
    config.loss.weights.ncut = 1.0
    config.loss.weights.gtv_fine = 1.0
    config.loss.weights.gtv_coarse = 1.0
    config.loss.weights.consistency = 1.0
    config.loss.weights.ncut_crop = 0.01
    config.loss.weights.equivariance = 0.01
    config.loss.weights.principal = 0.0  # of the data set's principal component, see training.md

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

    config.unet = ConfigDict()
    config.unet.channels = 32  # of its first level; the three below have 2, 4 and 8 times as many
    config.unet.cross_entropy_weight = 1.0
    config.unet.iou_weight = 1.0

    config.guided_filter = ConfigDict()
    config.guided_filter.radius = 9
    config.guided_filter.eps = 1e-3

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-4
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.99
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0  # longer gradients are shortened to it; 0: none is
    config.optimizer.schedule = "constant"  # or step, polynomial
    config.optimizer.decay_steps = 0  # of step: between two decays; of polynomial: 0 is the run
    config.optimizer.decay_rate = 0.95  # of step
    config.optimizer.decay_power = 0.9  # of polynomial
    config.optimizer.average_decay = 0.0  # above: prediction takes an average of the weights

    # Without validation the last checkpoint is the result.
    config.validation.foreground_rule = "batch"  # or image, none: see evaluation/protocols.py

    config.health.lowest_mean_mask = 0.01  # below or above these, a step shows a collapse
    config.health.highest_mean_mask = 0.99
    return config


def with_whole_patches(config: ConfigDict) -> ConfigDict:
    """Return a configuration whose image size is the nearest multiple of its backbone's patch.

    Of the backbone ``vit`` the patch is not known before its weights are read; its size stays.
    """
    known = BACKBONES.get(config.backbone.name)
    size = config.data.image_size
    if known is None or size % known.patch_size == 0:
        return config
    rounded = max(1, round(size / known.patch_size)) * known.patch_size
    logging.warning(
        "config.data.image_size is set to %d instead of %d, a multiple of the patch of %s",
        *(rounded, size, config.backbone.name),
    )
    config = config.copy_and_resolve_references()
    config.data.image_size = rounded
    config.data.resize_size = max(config.data.resize_size, rounded)
    return config


def check_config(config: ConfigDict) -> None:
    """Check the values of a configuration.

    Args:
        config: as :func:`default_config` returns it, with other values.

    Raises:
        ValueError: names every bad field, its value and what it may be.
    """
    run_config.check_task(config, SEGMENTATION, "train")
    checks = run_config.FieldChecks(config)
    run_config.check_run_fields(config, checks)
    require = checks.require
    checks.at_least(
        1,
        "selfmask.queries",
        "selfmask.decoder_layers",
        "unet.channels",
    )
    checks.at_least(2, "head.channels")
    checks.at_least(
        0,
        "loss.consistency_warmup_steps",
        "guided_filter.radius",
        "found.background_steps",
        "found.refinement_weight",
        "found.self_weight",
        "backbone.position_directions",
        "selfmask.ranking_weight",
        "selfmask.unmatched_weight",
        "unet.cross_entropy_weight",
        "unet.iou_weight",
        "optimizer.clip_norm",
        "optimizer.decay_steps",
        "optimizer.decay_power",
        "optimizer.weight_decay",
        *(f"loss.weights.{name}" for name in config.loss.weights),
    )
    checks.above_zero(
        "loss.eps",
        "loss.sigma",
        "guided_filter.eps",
        "optimizer.learning_rate",
        "optimizer.eps",
    )
    checks.fractions(
        "augmentation.blur_probability",
        "health.lowest_mean_mask",
        "health.highest_mean_mask",
    )
    require(
        "health.lowest_mean_mask",
        config.health.lowest_mean_mask < config.health.highest_mean_mask,
        f"below health.highest_mean_mask ({config.health.highest_mean_mask})",
    )
    for field in ("optimizer.b1", "optimizer.b2", "optimizer.average_decay"):
        value = config.optimizer[field.removeprefix("optimizer.")]
        require(field, 0 <= value < 1, "at least 0 and below 1")
    scale = config.augmentation.smallest_scale
    require("augmentation.smallest_scale", 0 < scale <= 1, "above 0 and at most 1")
    require("found.tau", -1 <= config.found.tau < 1, "at least -1 and below 1")
    require("network", config.network in NETWORKS, f"one of {', '.join(NETWORKS)}")
    has_head = config.network == SEMPART
    require(
        "head.dtype",
        config.head.dtype in (run_config.DTYPES if has_head else ("float32",)),
        "'float32' or 'bfloat16'"
        if has_head
        else f"'float32' if config.network is {config.network}, which has no such head",
    )
    require(
        "backbone.features",
        config.backbone.features in ("", *FEATURES),
        f"one of {', '.join(FEATURES)}, or empty",
    )
    for field, unset in (("features", ""), ("position_directions", 0)):
        require(
            f"backbone.{field}",
            config.network != SELFMASK or config.backbone[field] == unset,
            f"{unset!r} where config.network is selfmask, which trains its encoder",
        )
    if config.network == UNET:
        for field, needed in (
            ("name", NO_BACKBONE),
            ("weights", ""),
            ("dtype", "float32"),
            ("features", ""),
            ("position_directions", 0),
        ):
            require(
                f"backbone.{field}",
                config.backbone[field] == needed,
                f"{needed!r} where config.network is unet, which has no backbone",
            )
    require(
        "loss.weights.principal",
        has_head or not config.loss.weights.principal,
        f"0 if config.network is {config.network}, which has no coarse mask",
    )
    learns_from_masks = config.network in (SELFMASK, UNET)
    require(
        "pseudo_masks",
        bool(config.pseudo_masks) == learns_from_masks,
        "the folder of masks that `segment` wrote for the training images"
        if learns_from_masks
        else f"empty if config.network is {config.network}, which does not learn from masks",
    )
    schedule = config.optimizer.schedule
    require("optimizer.schedule", schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
    if schedule == "step":
        require("optimizer.decay_steps", config.optimizer.decay_steps >= 1, "at least 1")
    require("optimizer.decay_rate", 0 < config.optimizer.decay_rate <= 1, "above 0 and at most 1")
    require("loss.tau", -1 <= config.loss.tau < 1, "at least -1 and below 1")
    require("loss.eps", config.loss.eps < 0.5, "below 0.5")
    require("multiscale.crop_fraction", 0 < config.multiscale.crop_fraction <= 1, "in (0, 1]")
    require(
        "validation.foreground_rule",
        config.validation.foreground_rule in FOREGROUND_RULES,
        f"one of {FOREGROUND_RULES}",
    )
    checks.tell()
    if config.network != UNET:
        check_backbone(config.backbone.name)


def resumable_fields(config: ConfigDict) -> tuple[str, ...]:
    """Return :data:`RESUMABLE_FIELDS`, less the length where every learning rate depends on it."""
    if config.optimizer.schedule == "polynomial" and not config.optimizer.decay_steps:
        fixed = run_config.RUN_LENGTH_FIELDS
        return tuple(field for field in RESUMABLE_FIELDS if field not in fixed)
    return RESUMABLE_FIELDS
