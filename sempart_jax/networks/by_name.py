"""The networks that are trained here, by name."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sempart_jax.baselines.found import FoundDecoder
from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.selfmask_network import SelfMaskNetwork
from sempart_jax.baselines.unet import UNet, UNetNetwork
from sempart_jax.networks.backbones import backbone_module, load_backbone
from sempart_jax.networks.names import FOUND, NETWORKS, NO_BACKBONE, SELFMASK, SEMPART, UNET
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import MaskNetwork
from sempart_jax.two_tricks.vit import VisionTransformer


def create_network(
    name: str,
    backbone: nn.Module | None,
    *,
    radius: int = 9,
    filter_eps: float = 1e-3,
    axis_name: str | None = None,
    queries: int = 20,
    decoder_layers: int = 6,
    head_dtype: str = "float32",
    head_channels: int = 128,
    unet_channels: int = 32,
) -> MaskNetwork:
    """Make a network, over a backbone where it has one.

    Args:
        name: one of ``networks.names.NETWORKS``.
        backbone: module of the backbone; ``None`` for ``unet``.
        radius: radius of the guided filter in pixels.
        filter_eps: regularisation of the guided filter.
        axis_name: mapped device axis over which batch norm averages in training.
        queries: queries of ``selfmask``.
        decoder_layers: layers of the transformer decoder of ``selfmask``.
        head_dtype: type of the products in the head of ``sempart``, ``float32`` or ``bfloat16``;
            the others compute in float32 what is not their backbone.
        head_channels: features of the fine branch of ``sempart``.
        unet_channels: features of the first level of ``unet``.

    Raises:
        ValueError: if there is no such network, it needs a backbone, a vision transformer or none,
            or it has no choice of ``head_dtype``.
    """
    if name != SEMPART and head_dtype != "float32":
        raise ValueError(
            f"{name} computes in float32 beside its backbone: leave head_dtype at float32, got "
            f"{head_dtype!r}"
        )
    if (name == UNET) != (backbone is None):
        needed = "has no backbone" if name == UNET else "needs a backbone"
        raise ValueError(f"{name} {needed}, got {type(backbone).__name__}")
    if backbone is None:
        unet = UNet(unet_channels, axis_name)
        return UNetNetwork(unet, radius=radius, filter_eps=filter_eps)
    if name == SELFMASK:
        if not isinstance(backbone, VisionTransformer):
            raise ValueError(f"{name} trains a vision transformer, got {type(backbone).__name__}")
        mask_former = MaskFormer(backbone, num_queries=queries, num_layers=decoder_layers)
        return SelfMaskNetwork(mask_former, radius=radius, filter_eps=filter_eps)
    patch_size: int = backbone.patch_size
    if name == SEMPART:
        head: SegmentationHead | FoundDecoder = SegmentationHead(
            patch_size, axis_name, jnp.dtype(head_dtype), head_channels
        )
    elif name == FOUND:
        head = FoundDecoder(patch_size)
    else:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")
    return HeadNetwork(backbone, head, radius=radius, filter_eps=filter_eps)


def name_network(network: MaskNetwork) -> str:
    """Return the name in ``NETWORKS`` by which :func:`create_network` makes such a network."""
    if isinstance(network, SelfMaskNetwork):
        return SELFMASK
    if isinstance(network, UNetNetwork):
        return UNET
    is_found = isinstance(network, HeadNetwork) and isinstance(network.head, FoundDecoder)
    return FOUND if is_found else SEMPART


def load_frozen(
    network: str, backbone: str, weights: str = "", dtype: str = "float32", **options: Any
) -> tuple[nn.Module | None, dict[str, Any]]:
    """Make the backbone of a network, if it has one, and load what stays frozen of it."""
    if network == UNET:
        if backbone != NO_BACKBONE or weights:
            raise ValueError(f"{network} has no backbone: leave out {weights or backbone}")
        return None, {}
    if network != SELFMASK:
        return load_backbone(backbone, weights, dtype, **options)
    return backbone_module(backbone, dtype), {}
