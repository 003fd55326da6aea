"""Sempart without the tricks, the baseline of the paper (Table 3, first row).

    python -m sempart_jax.train --config configs/baseline.py --config.data.train=data/DUTS

Expected IoU after 30 epochs on DUTS-TR (published): DUT-OMRON .664, DUTS-TE .761, ECSSD .853.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.multiscale.enabled = False
    return config
