"""The full method: guided filtering and multi-scale consistency over DINO ViT-S/8.

    python -m sempart_jax.train --config configs/tricks.py --config.data.train=data/DUTS

Expected IoU after 30 epochs on DUTS-TR (published): DUT-OMRON .684, DUTS-TE .787, ECSSD .862.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    return default_config()
