"""Every frozen backbone by its name: module and parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import linen as nn

from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.names import HANDCRAFTED, RANDOM_WEIGHTS, check_backbone
from sempart_jax.networks.pretrained import create_backbone, load_backbone_params


def load_backbone(
    name: str, weights: str = "", dtype: str = "float32"
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a backbone and load its parameters.

    Args:
        name: one of ``sempart_jax.networks.names.BACKBONES``, or ``handcrafted`` (no parameters).
        weights: a file (``.safetensors``, ``.npz``, ``.pth``; a model file of this project that
            holds the backbone, too); empty to download them by name; ``random`` for
            ``networks.names.RANDOM_WEIGHTS``.
        dtype: type of the matrix products, ``float32`` or ``bfloat16``.

    Returns:
        The module, and the parameters that its ``apply`` takes.

    Raises:
        ValueError: the name is unknown, or the handcrafted backbone is asked for weights or for
            another type than float32; or as ``load_backbone_params`` raises.
        FileNotFoundError: the weights are not there and cannot be had.
        ModuleNotFoundError: a PyTorch file, and PyTorch is not installed.
    """
    module = backbone_module(name, dtype)
    if name == HANDCRAFTED:
        if weights:
            raise ValueError(
                f"the handcrafted backbone has no weights: leave out {weights!r}, which "
                "--config.backbone.weights (in training) or --weights (elsewhere) names"
            )
        return module, {}
    if weights == RANDOM_WEIGHTS:
        logging.warning("%s has random weights: good for timing alone", name)
        side = module.patch_size
        variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, side, side, 3)))
        return module, variables["params"]
    return module, load_backbone_params(name, weights or None)


def backbone_module(name: str, dtype: str = "float32") -> nn.Module:
    """Make a backbone without its parameters.

    Args:
        name: one of ``sempart_jax.networks.names.BACKBONES``, or ``handcrafted``.
        dtype: type of the matrix products, ``float32`` or ``bfloat16``.

    Raises:
        ValueError: the name is unknown, or the handcrafted backbone is asked for another type than
            float32.
    """
    check_backbone(name)
    if name == HANDCRAFTED:
        if dtype != "float32":
            raise ValueError(
                "the handcrafted backbone computes in float32: leave backbone.dtype at float32"
            )
        return HandcraftedBackbone()
    return create_backbone(name, jnp.dtype(dtype))
