"""Pretrain a ViT-Ti/8 by DINO on images of any kind.

    python -m sempart_jax.pretrain --config configs/dino_pretrain.py --config.data.train=FOLDER

Images are resized to a short side of 128 px. docs/pretraining.md says what to watch; log K is 8.3.
"""

from ml_collections import ConfigDict

from sempart_jax.training.pretraining_config import pretraining_config


def get_config() -> ConfigDict:
    config = pretraining_config()
    config.epochs = 400
    config.backbone.name = "vit_tiny8"
    config.data.image_size = 128
    config.data.resize_size = 128
    config.crops.global_size = 96
    config.crops.local_size = 48
    config.crops.local_count = 6
    config.augmentation.largest_blur = 1.0  # as strong as DINO's on larger crops
    config.head.outputs = 4096
    return config
