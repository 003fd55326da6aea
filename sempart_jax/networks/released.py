"""Weights by the names that their authors released them under: which network they are of.

A file is either a vision transformer, or the head of *Two Tricks* (arXiv
2404.03392); neither says by itself on which backbone the head was trained.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sempart_jax.networks.backbone_names import original_name
from sempart_jax.networks.names import BACKBONES, Architecture
from sempart_jax.networks.porting import drop_projection_head, port_backbone, port_head
from sempart_jax.networks.weight_files import read_state_dict
from sempart_jax.two_tricks.vit import MLP_RATIO, VisionTransformer


def read_released_head(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the released head; raises what ``read_state_dict`` raises, ValueError if it is none."""
    state_dict = read_state_dict(path)
    if _is_vit(state_dict) and not _is_head(state_dict):
        raise ValueError(
            f"{path} holds a vision transformer and no head, so it gives no masks: it can serve as "
            "weights of a backbone"
        )
    if not _is_head(state_dict):
        raise ValueError(f"{path} holds no segmentation head: {_first_names(state_dict)}")
    try:
        return port_head(state_dict)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_released_vit(
    path: str | os.PathLike[str], num_heads: int | None = None
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Read a vision transformer, without the projection head beside it; raises as for a head."""
    state_dict = drop_projection_head(read_state_dict(path))
    if _is_head(state_dict) and not _is_vit(state_dict):
        raise ValueError(f"{path} holds a segmentation head where weights of a backbone are wanted")
    if not _is_vit(state_dict):
        raise ValueError(f"{path} holds no vision transformer: {_first_names(state_dict)}")
    try:
        return port_backbone(state_dict, num_heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_found_decoder(path: str | os.PathLike[str]) -> tuple[np.ndarray, float]:
    """Read the decoder released with FOUND (arXiv 2212.07834): kernel ``[D]`` and bias."""
    tensors = read_state_dict(path)
    kernel, bias = (tensors.get(f"decoder.{name}") for name in ("weight", "bias"))
    if kernel is None or bias is None or kernel.shape != (1, kernel.size, 1, 1) or bias.size != 1:
        raise ValueError(
            f"{path} holds no decoder of FOUND, decoder.weight [1, D, 1, 1] and decoder.bias [1]: "
            f"{_first_names(tensors)}"
        )
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise ValueError(f"{path}: the decoder has values that are not finite")
    return kernel.reshape(-1), float(bias.reshape(-1)[0])


def head_shape(variables: Mapping[str, Any]) -> tuple[int, int]:
    """Return the patch size that a head was made for, and the width of the keys that it reads."""
    params = variables["params"]
    stages = sum(name.startswith("stage_") for name in params)
    return 2**stages, params["input_projection"]["kernel"].shape[0]


def infer_backbone(patch_size: int, width: int, module: VisionTransformer | None = None) -> str:
    """Name the backbone of a shape.

    Args:
        patch_size: side of its patches in pixels.
        width: channels of its features.
        module: its module, where that is known; otherwise a backbone of DINO's own shape is meant,
            over which heads were released.

    Raises:
        ValueError: there is none, or more than one and only a person can tell.
    """
    names = [
        name
        for name, known in BACKBONES.items()
        if (known.patch_size, known.width) == (patch_size, width)
        and (is_of(module, known) if module else not known.layer_scale)
    ]
    shape = f"patch size {patch_size} and width {width}"
    if module is not None:
        shape = describe_vit(module)
    if not names:
        raise ValueError(f"there is no backbone of {shape} among {', '.join(BACKBONES)}")
    if len(names) > 1:
        raise ValueError(
            f"the tensors alone do not tell {' from '.join(names)}, which have {shape}: name the "
            "backbone"
        )
    return names[0]


def is_of(module: VisionTransformer, architecture: Architecture) -> bool:
    """Say whether a module that was inferred from weights has the shape of a known backbone."""
    fields = ("patch_size", "width", "depth", "registers", "position", "gated", "layer_scale")
    same = all(getattr(module, name) == getattr(architecture, name) for name in fields)
    default = MLP_RATIO * module.width
    return same and (module.hidden or default) == (architecture.hidden or default)


def describe_vit(vit: VisionTransformer | Architecture) -> str:
    """Say in words what shape a vision transformer has."""
    words = f"patch size {vit.patch_size}, width {vit.width} and depth {vit.depth}"
    if vit.registers:
        words += f", {vit.registers} registers"
    if vit.position == "rotary":
        words += ", rotary position"
    if vit.layer_scale:
        words += ", layer scale"
    return words + (", SwiGLU" if vit.gated else "")


def _is_head(state_dict: Mapping[str, np.ndarray]) -> bool:
    return "conv_input.weight" in state_dict or "conv_final.weight" in state_dict


def _is_vit(state_dict: Mapping[str, np.ndarray]) -> bool:
    return any(original_name(x) in ("patch_embed.proj.weight", "cls_token") for x in state_dict)


def _first_names(state_dict: Mapping[str, np.ndarray]) -> str:
    names = sorted(state_dict)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"its tensors are {', '.join(names[:3])}{more}"
