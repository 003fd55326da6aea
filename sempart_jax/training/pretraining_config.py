"""The configuration of a pretraining by DINO, by default as in its paper's long runs of a ViT-S.

Where that is not what the authors recommend for such a batch, and where this pretraining departs
from theirs, ``docs/pretraining.md`` says so. Experiments under ``configs/`` start from
:func:`pretraining_config` and change what they are about.
"""

from ml_collections import ConfigDict

from sempart_jax.networks.names import BACKBONES
from sempart_jax.runs import run_config

PRETRAINING = "pretraining"
"""The task of these configurations."""

RESUMABLE_FIELDS = (
    *(field for field in run_config.RESUMABLE_FIELDS if field not in run_config.RUN_LENGTH_FIELDS),
    "accumulation",
    "validation",
)
"""Fields that may differ when a run is resumed; micro-batches change no more than rounding. How
long it is, is not among them: every schedule follows from it."""

PROCESS_FIELDS = run_config.PROCESS_FIELDS
"""Fields that may differ between the processes of one run."""


def pretraining_config() -> ConfigDict:
    """Return the configuration of DINO (arXiv 2104.14294) for a ViT-S/8 on images of any kind."""
    config = run_config.run_config(PRETRAINING)
    config.batch_size = 256  # the paper's is 1,024
    config.epochs = 100
    config.backbone.drop_path = 0.1  # rate of stochastic depth in the last block

    config.data.image_size = 256  # side of the square of an image that is cropped from
    config.data.resize_size = 256  # short side before it

    config.crops = ConfigDict()
    config.crops.global_size = 224
    config.crops.global_smallest_area = 0.4  # of the square
    config.crops.local_count = 8
    config.crops.local_size = 96
    config.crops.local_smallest_area = 0.05
    config.crops.local_largest_area = 0.4

    config.augmentation.smallest_blur = 0.1  # standard deviation in pixels of a crop
    config.augmentation.largest_blur = 2.0
    config.augmentation.solarize_probability = 0.2  # of the second global crop

    config.head = ConfigDict()
    config.head.outputs = 65536
    config.head.hidden = 2048
    config.head.bottleneck = 256

    config.dino = ConfigDict()
    config.dino.student_temperature = 0.1
    config.dino.teacher_temperature = 0.07  # main_dino.py stays at 0.04, which suits short runs
    config.dino.first_teacher_temperature = 0.04
    config.dino.teacher_temperature_epochs = 30.0  # from the first one to the other
    config.dino.teacher_momentum = 0.996  # grows to 1; its authors recommend 0.9995 for 256
    config.dino.center_momentum = 0.9

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 5e-4  # of 256 images; in proportion to the batch
    config.optimizer.warmup_epochs = 10.0
    config.optimizer.final_learning_rate = 1e-6
    config.optimizer.weight_decay = 0.04
    config.optimizer.final_weight_decay = 0.4
    config.optimizer.clip_norm = 3.0  # of the gradient of each tensor
    config.optimizer.frozen_last_layer_epochs = 1.0

    return config


def pretrained_backbones() -> list[str]:
    """Name the backbones of DINO's own shape."""
    return [name for name, known in BACKBONES.items() if not known.layer_scale]


def check_pretraining_config(config: ConfigDict) -> None:
    """Check the values of a configuration."""
    run_config.check_task(config, PRETRAINING, "pretrain")
    checks = run_config.FieldChecks(config)
    run_config.check_run_fields(config, checks)
    name = config.backbone.name
    names = pretrained_backbones()
    checks.require("backbone.name", name in names, f"one of {', '.join(names)}")
    checks.at_least(1, "head.hidden", "head.bottleneck")
    checks.at_least(2, "head.outputs")
    checks.at_least(
        0,
        "crops.local_count",
        "dino.teacher_temperature_epochs",
        "optimizer.warmup_epochs",
        "optimizer.final_learning_rate",
        "optimizer.weight_decay",
        "optimizer.final_weight_decay",
        "optimizer.frozen_last_layer_epochs",
    )
    checks.above_zero(
        "augmentation.smallest_blur",
        "dino.student_temperature",
        "dino.teacher_temperature",
        "dino.first_teacher_temperature",
        "optimizer.learning_rate",
        "optimizer.clip_norm",
    )
    checks.fractions(
        "augmentation.solarize_probability",
        "dino.teacher_momentum",
        "dino.center_momentum",
    )
    require = checks.require
    blur = config.augmentation
    require(
        "augmentation.largest_blur",
        blur.largest_blur >= blur.smallest_blur,
        f"at least augmentation.smallest_blur ({blur.smallest_blur})",
    )
    require("backbone.drop_path", 0 <= config.backbone.drop_path < 1, "at least 0 and below 1")
    crops = config.crops
    for field in ("global_smallest_area", "local_smallest_area", "local_largest_area"):
        require(f"crops.{field}", 0 < crops[field] <= 1, "above 0 and at most 1")
    require(
        "crops.local_largest_area",
        crops.local_largest_area >= crops.local_smallest_area,
        f"at least crops.local_smallest_area ({crops.local_smallest_area})",
    )
    if name in BACKBONES:
        patch = BACKBONES[name].patch_size
        for field in ("crops.global_size", "crops.local_size", "data.image_size"):
            group, last = field.split(".")
            side = config[group][last]
            require(
                field,
                side >= patch and side % patch == 0,
                f"a multiple of the patch of {name}, {patch}",
            )
    checks.tell()
