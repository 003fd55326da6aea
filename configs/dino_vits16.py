"""The full method over DINO ViT-S/16: a quarter of the patches, four stages in the fine branch.

    python -m sempart_jax.train --config configs/dino_vits16.py --config.data.train=data/DUTS

Expected after 30 epochs of DUTS-TR (published, IoU): DUT-OMRON .652, DUTS-TE .714, ECSSD .816.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.backbone.name = "dino_vits16"
    return config
