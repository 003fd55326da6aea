r"""The built-in model: a small U-Net, trained from scratch on masks of the head over DINOv2.

    python -m sempart_jax.segment IMAGES --resolution 224 --mask soft --outputs mask --out pseudo
    python -m sempart_jax.train --config configs/builtin.py --workdir runs/builtin \
        --config.data.train=IMAGES --config.pseudo_masks=pseudo
    python scripts/write_model.py runs/builtin sempart_jax/builtin/model.safetensors \
        --dtype bfloat16

A step takes 1.2 s of one CPU core, all of them 78 minutes. Masks by `--method priors` serve as
well, and need no download. Expected IoU on 300 images each, after the guided filter: ECSSD .620,
DUTS-TE .489; see docs/models.md.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.network = "unet"
    config.backbone.name = "none"
    config.batch_size = 16
    config.steps = 4000
    config.epochs = 0
    config.data.image_size = 128
    config.data.resize_size = 128
    config.augmentation.brightness = 0.2
    config.augmentation.contrast = 0.2
    config.augmentation.hue = 0.05
    config.augmentation.grayscale_probability = 0.1
    config.augmentation.smallest_scale = 0.6
    config.multiscale.enabled = False
    # That of 320 pixels, at this size.
    config.guided_filter.radius = 4
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule = "polynomial"
    config.optimizer.average_decay = 0.998
    return config
