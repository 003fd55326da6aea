r"""A small U-Net without a backbone, trained from scratch on masks of the method priors.

    python -m sempart_jax.segment data/DUTS/DUTS-TR/DUTS-TR-Image --method priors --mask soft \
        --out pseudo --outputs mask
    python -m sempart_jax.train --config configs/builtin.py \
        --config.data.train=data/DUTS --config.pseudo_masks=pseudo
    python scripts/write_model.py runs/builtin sempart_jax/builtin/model.safetensors \
        --dtype bfloat16

No weights are downloaded. A step takes 0.9 s of one CPU core, all 13,191 of them three and a half
hours. Expected IoU: near that of its pseudo-masks.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.network = "unet"
    config.backbone.name = "none"
    config.batch_size = 16
    config.epochs = 20
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
