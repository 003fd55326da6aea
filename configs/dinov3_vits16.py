"""The full method over DINOv3 ViT-S/16 at 320 px, on tokens of the last block, not keys.

    python -m sempart_jax.train --config configs/dinov3_vits16.py --workdir runs/dinov3_vits16

Expected IoU: not measured yet. tau is the paper's value for DINO's keys.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.backbone.name = "dinov3_vits16"
    return config
