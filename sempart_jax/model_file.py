"""A trained network in one file of its own, see ``model_format``."""

import os
from pathlib import Path

import jax

from sempart_jax.model_format import (
    BACKBONE,
    HEAD,
    Description,
    holds_backbone,
    read_description,
    read_tensors,
    write_tensors,
)
from sempart_jax.models.backbone import load_backbone
from sempart_jax.models.head import SegmentationHead
from sempart_jax.models.network import TrainedNetwork
from sempart_jax.models.segmenter import Segmenter
from sempart_jax.tensor_tree import check_tensors, flatten, unflatten


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
        include_backbone: without it the file is small, and whoever reads it needs the backbone's
            weights besides.
        dtype: ``float32``, or ``bfloat16`` for half the size; biases, norms and running averages
            stay float32. The type of computation is the network's own.

    Raises:
        ValueError: if the file's name ends otherwise, the type is unknown, or a tensor is not
            finite.
    """
    tensors = flatten(network.head_variables, HEAD)
    if include_backbone:
        tensors |= flatten(network.backbone_params, BACKBONE)
    write_tensors(path, describe(network), tensors, dtype)


def describe(network: TrainedNetwork) -> Description:
    """Say what a model file tells of a network beside its tensors."""
    return Description(
        backbone=network.backbone,
        patch_size=network.patch_size,
        origin=network.origin,
        short_side=network.short_side,
        filter_radius=network.segmenter.radius,
        filter_eps=network.segmenter.filter_eps,
        compute_dtype=network.dtype,
    )


def read_model(
    path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> TrainedNetwork:
    """Read a network that :func:`write_model` has written.

    Args:
        path: the file.
        weights: file of the backbone's weights for a file without backbone; without it they are
            loaded, and if need be downloaded, by the backbone's name.

    Raises:
        FileNotFoundError: if there is no such file, or the backbone's weights cannot be had.
        ModuleNotFoundError: if the weights are a PyTorch file, and PyTorch is not installed.
        ValueError: if the file is damaged, of another version, or holds no head; if its tensors are
            not those of its network (all are named); or if there are two backbones.
    """
    path = Path(path)
    description = read_description(path)
    head = read_tensors(path, HEAD)
    if not head:
        raise ValueError(
            f"{path} holds the backbone {description.backbone} and no head, so it gives no masks: "
            "it can serve as weights of a backbone"
        )
    if holds_backbone(path):
        if weights is not None:
            raise ValueError(f"{path} holds its backbone: leave out the weights {weights}")
        weights = path
    module, backbone_params = load_backbone(
        description.backbone,
        "" if weights is None else os.fspath(weights),
        description.compute_dtype,
    )
    if module.patch_size != description.patch_size:
        raise ValueError(
            f"{path} says that {description.backbone} has patches of {description.patch_size} "
            f"pixels, and it has {module.patch_size}: the file is damaged, get it again"
        )
    segmenter = Segmenter(
        module,
        SegmentationHead(patch_size=description.patch_size),
        radius=description.filter_radius,
        filter_eps=description.filter_eps,
    )
    variables = jax.eval_shape(
        lambda: segmenter.init(jax.random.key(0), backbone_params, description.patch_size)
    )
    shapes = {name: leaf.shape for name, leaf in flatten(variables, HEAD).items()}
    check_tensors(path, head, shapes, f"a head for {description.backbone}")
    return TrainedNetwork(
        segmenter=segmenter,
        backbone_params=backbone_params,
        head_variables=unflatten(head, HEAD),
        short_side=description.short_side,
        backbone=description.backbone,
        dtype=description.compute_dtype,
        origin=f"model file {path} ({description.origin})",
    )
