"""FOUND's decoder (arXiv 2212.07834), a single 1x1 convolution, for two epochs of DUTS-TR.

    python -m sempart_jax.train --config configs/found.py --config.data.train=data/DUTS

The released code stops after 500 steps and squeezes images by a random scale; here they are
cropped and flipped.

Expected IoU (published, largest object): DUT-OMRON .586, DUTS-TE .637, ECSSD .793.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.network = "found"
    config.batch_size = 50
    config.epochs = 2
    config.data.image_size = 224
    config.data.resize_size = 224
    config.augmentation.jitter_probability = 0.0
    config.augmentation.grayscale_probability = 0.0
    config.augmentation.blur_probability = 0.5
    config.optimizer.learning_rate = 5e-2
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "step"
    config.optimizer.decay_steps = 50
    config.checkpoint.every_steps = 100
    config.log.every_steps = 10
    config.log.panels_every_steps = 100
    return config
