"""Trick 2 alone: multi-scale consistency with an unfiltered teacher (Table 3, "Crop").

    python -m sempart_jax.train --config configs/crop.py --config.data.train=data/DUTS

Expected IoU after 30 epochs on DUTS-TR (published): DUT-OMRON .670, DUTS-TE .772, ECSSD .852.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.multiscale.filtered_teacher = False
    return config
