"""The full method over DINOv2 ViT-S/14 at 322 px, on tokens of the last block, not keys.

    python -m sempart_jax.train --config configs/dinov2_vits14.py --workdir runs/dinov2_vits14

Expected IoU: not measured on all of DUTS-TR yet. tau is the paper's value for DINO's keys.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.backbone.name = "dinov2_vits14"
    config.data.image_size = 322
    config.data.resize_size = 357
    config.loss.weights.principal = 1.0
    return config
