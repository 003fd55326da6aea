r"""SelfMask's second stage (arXiv 2203.12614), trained on the masks of another run.

    python -m sempart_jax.segment data/DUTS/DUTS-TR/DUTS-TR-Image --workdir runs/tricks \
        --out pseudo_masks --outputs mask
    python -m sempart_jax.train --config configs/selfmask.py \
        --config.data.train=data/DUTS --config.pseudo_masks=pseudo_masks

Expected IoU after 12 epochs on masks of the two tricks (published): DUT-OMRON .685,
DUTS-TE .747, ECSSD .852.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.network = "selfmask"
    config.epochs = 12
    config.data.image_size = 224
    config.data.resize_size = 224
    config.augmentation.brightness = 0.8
    config.augmentation.contrast = 0.8
    config.augmentation.saturation = 0.8
    config.augmentation.hue = 0.2
    config.augmentation.blur_probability = 0.5
    config.augmentation.smallest_scale = 0.1
    config.optimizer.learning_rate = 6e-6
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "polynomial"
    return config
