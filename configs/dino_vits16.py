"""The full method over DINO ViT-S/16, with a quarter of the patches of ViT-S/8.

    python -m sempart_jax.train --config configs/dino_vits16.py --config.data.train=data/DUTS

Expected IoU after 30 epochs on DUTS-TR (published): DUT-OMRON .652, DUTS-TE .714, ECSSD .816.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.backbone.name = "dino_vits16"
    return config
