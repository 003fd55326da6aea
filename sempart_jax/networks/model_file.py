"""A trained network in one file of its own, see ``model_format``."""

import os
from pathlib import Path
from typing import Any

from absl import logging

from sempart_jax.baselines.selfmask_network import SelfMaskNetwork
from sempart_jax.baselines.unet import UNetNetwork
from sempart_jax.kernels.tensor_tree import check_tensors, fingerprint_params, flatten, unflatten
from sempart_jax.networks.by_name import create_network, load_frozen, name_network
from sempart_jax.networks.model_format import (
    BACKBONE,
    HEAD,
    Description,
    holds_backbone,
    read_description,
    read_tensors,
    write_tensors,
)
from sempart_jax.networks.names import HANDCRAFTED, NO_BACKBONE
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.vit import VisionTransformer


def write_model(
    path: str | os.PathLike[str],
    network: TrainedNetwork,
    *,
    include_backbone: bool = True,
    dtype: str = "float32",
) -> None:
    """Write a trained network as one file.

    Args:
        path: file to write, ending in ``.safetensors``; it is whole or as before.
        network: the network.
        include_backbone: without it the file is small, and whoever reads it needs the frozen
            backbone's weights besides.
        dtype: ``float32``, or ``bfloat16`` for half the size; biases, norms and running averages
            stay float32. The type of computation is the network's own.

    Raises:
        ValueError: if the file's name ends otherwise, the type is unknown, or a tensor is not
            finite.
    """
    tensors = flatten(network.variables, HEAD)
    if include_backbone:
        tensors |= flatten(network.frozen_params, BACKBONE)
    write_tensors(path, describe(network), tensors, dtype)


def describe(network: TrainedNetwork) -> Description:
    """Say what a model file tells of a network beside its tensors."""
    sizes: dict[str, Any] = {}
    modules, frozen = network.modules, network.frozen_params
    if isinstance(modules, HeadNetwork) and isinstance(modules.backbone, VisionTransformer):
        backbone = modules.backbone
        sizes = {
            "features": backbone.features,
            "position_directions": backbone.position_directions,
        }
    if isinstance(modules, HeadNetwork) and isinstance(modules.head, SegmentationHead):
        sizes["head_channels"] = modules.head.channels
    elif isinstance(modules, SelfMaskNetwork):
        mask_former = modules.mask_former
        sizes = {"queries": mask_former.num_queries, "decoder_layers": mask_former.num_layers}
    elif isinstance(modules, UNetNetwork):
        sizes["unet_channels"] = modules.unet.channels
    return Description(
        backbone=network.backbone,
        patch_size=network.patch_size,
        origin=network.origin,
        short_side=network.short_side,
        filter_radius=modules.radius,
        filter_eps=modules.filter_eps,
        compute_dtype=network.dtype,
        network=name_network(modules),
        head_dtype=network.head_dtype,
        backbone_fingerprint=fingerprint_params(frozen) if frozen else "",
        foreground_chosen=network.foreground_chosen,
        **sizes,
    )


def read_model(
    path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> TrainedNetwork:
    """Read a network that :func:`write_model` has written, see ``runs.load_network``.

    Warns where the weights of the backbone are not those that the head was trained on.
    """
    path = Path(path)
    description = read_description(path)
    head = read_tensors(path, HEAD)
    if not head:
        raise ValueError(
            f"{path} holds the backbone {description.backbone} and no head, so it gives no masks: "
            "it can serve as weights of a backbone"
        )
    is_whole = holds_backbone(path)
    if is_whole:
        if weights is not None:
            raise ValueError(f"{path} holds its backbone: leave out the weights {weights}")
        weights = path
    module, frozen_params = load_frozen(
        description.network,
        description.backbone,
        "" if weights is None else os.fspath(weights),
        description.compute_dtype,
        # Older files are of networks over keys.
        features=description.features or ("" if description.backbone == HANDCRAFTED else "keys"),
        position_directions=description.position_directions,
    )
    trained_on = description.backbone_fingerprint
    if trained_on and not is_whole and fingerprint_params(frozen_params) != trained_on:
        logging.warning(
            "the weights of %s are not those that the head in %s was trained on: if they come "
            "from another training, its masks may be much worse",
            description.backbone,
            path,
        )
    modules = create_network(
        description.network,
        module,
        radius=description.filter_radius,
        filter_eps=description.filter_eps,
        queries=description.queries,
        decoder_layers=description.decoder_layers,
        head_dtype=description.head_dtype,
        head_channels=description.head_channels,
        unet_channels=description.unet_channels,
    )
    over = f"{description.network} over {description.backbone}"
    named = description.network if description.backbone == NO_BACKBONE else over
    if modules.patch_size != description.patch_size:
        raise ValueError(
            f"{path} says that {named} has patches of {description.patch_size} pixels, and it has "
            f"{modules.patch_size}: the file is damaged, get it again"
        )
    variables = modules.shapes(frozen_params, description.patch_size)
    shapes = {name: leaf.shape for name, leaf in flatten(variables, HEAD).items()}
    check_tensors(path, head, shapes, named)
    return TrainedNetwork(
        modules=modules,
        frozen_params=frozen_params,
        variables=unflatten(head, HEAD),
        short_side=description.short_side,
        backbone=description.backbone,
        dtype=description.compute_dtype,
        origin=f"model file {path} ({description.origin})",
        head_dtype=description.head_dtype,
        foreground_chosen=description.foreground_chosen,
    )
