"""Every frozen backbone by its name: module and parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import linen as nn

from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.names import (
    ANY_VIT,
    FEATURES,
    HANDCRAFTED,
    RANDOM_WEIGHTS,
    check_backbone,
)
from sempart_jax.networks.pretrained import (
    create_backbone,
    load_any_vit,
    load_backbone_params,
)


def load_backbone(
    name: str,
    weights: str = "",
    dtype: str = "float32",
    *,
    features: str = "",
    position_directions: int = 0,
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a backbone and load its parameters.

    Args:
        name: one of ``sempart_jax.networks.names.BACKBONES``; ``vit`` for any vision transformer of
            the family, as its weights are; or ``handcrafted`` (no parameters).
        weights: see ``pretrained.load_backbone_params``; empty to download them by name; ``random``
            for ``networks.names.RANDOM_WEIGHTS``.
        dtype: type of the matrix products, ``float32`` or ``bfloat16``.
        features: one of ``networks.names.FEATURES``; empty for those of the backbone's family.
        position_directions: see ``two_tricks.features``.

    Returns:
        The module, and the parameters that its ``apply`` takes.

    Raises:
        ValueError: the name is unknown, or the handcrafted backbone is asked for weights or for
            another type than float32; or as ``load_backbone_params`` raises.
        FileNotFoundError: the weights are not there and cannot be had.
        ModuleNotFoundError: a PyTorch file, and PyTorch is not installed.
    """
    if features not in ("", *FEATURES):
        raise ValueError(f"unknown features {features!r}: choose one of {', '.join(FEATURES)}")
    if name == HANDCRAFTED:
        if features not in ("", "keys") or position_directions:
            raise ValueError(
                "the handcrafted backbone has keys alone: leave the choice of features"
            )
        module = backbone_module(name, dtype)
        if weights:
            raise ValueError(
                f"the handcrafted backbone has no weights: leave out {weights!r}, which "
                "--config.backbone.weights (in training) or --weights (elsewhere) names"
            )
        return module, {}
    chosen = {"features": features, "position_directions": position_directions}
    options: dict[str, Any] = {field: value for field, value in chosen.items() if value}
    if name == ANY_VIT:
        vit, params = load_any_vit(weights or None)
        return vit.clone(dtype=jnp.dtype(dtype), **options), params
    module = backbone_module(name, dtype)
    if options:
        module = module.clone(**options)
    if weights == RANDOM_WEIGHTS:
        logging.warning("%s has random weights: good for timing alone", name)
        side = module.patch_size
        variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, side, side, 3)))
        return module, variables["params"]
    return module, load_backbone_params(name, weights or None)


def backbone_module(name: str, dtype: str = "float32") -> nn.Module:
    """Make a backbone without its parameters."""
    check_backbone(name)
    if name == ANY_VIT:
        raise ValueError("the backbone vit takes its shape from its weights: name one by its name")
    if name == HANDCRAFTED:
        if dtype != "float32":
            raise ValueError(
                "the handcrafted backbone computes in float32: leave backbone.dtype at float32"
            )
        return HandcraftedBackbone()
    return create_backbone(name, jnp.dtype(dtype))
