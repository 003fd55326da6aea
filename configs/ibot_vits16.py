r"""The full method over iBOT ViT-S/16.

    python -m sempart_jax.train --config configs/ibot_vits16.py \
        --config.data.train=data/DUTS --config.backbone.weights=checkpoint_teacher.pth

Download the teacher's checkpoint of ViT-S/16 from https://github.com/bytedance/ibot.
Expected IoU after 30 epochs on DUTS-TR (published): DUT-OMRON .604, DUTS-TE .668, ECSSD .811.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.backbone.name = "ibot_vits16"
    return config
