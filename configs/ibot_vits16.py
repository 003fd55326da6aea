r"""The full method over iBOT ViT-S/16, whose weights are given as a file.

    python -m sempart_jax.train --config configs/ibot_vits16.py \
        --config.data.train=data/DUTS --config.backbone.weights=checkpoint_teacher.pth

The checkpoint is the teacher of ViT-S/16 from https://github.com/bytedance/ibot.
Expected after 30 epochs of DUTS-TR (published, IoU): DUT-OMRON .604, DUTS-TE .668, ECSSD .811.
"""

from ml_collections import ConfigDict

from sempart_jax.runs.default_config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.backbone.name = "ibot_vits16"
    return config
