"""PyTorch state dicts into Flax parameter trees, strictly and by name.

The state dicts are those of vision transformers, by the names of several sources, and of the
segmenter released with *Two Tricks to Improve Unsupervised Segmentation Learning* (arXiv
2404.03392).
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sempart_jax.kernels.tensor_tree import tensor_problems, unflatten
from sempart_jax.networks.backbone_names import source_name, to_original_names
from sempart_jax.two_tricks.vit import (
    LEARNED,
    LEARNED_ANTIALIASED,
    MLP_RATIO,
    ROTARY,
    VisionTransformer,
)

PROJECTION_HEAD = re.compile(r"(dino_|ibot_)?head\.(mlp|last_layer|last_norm)2?\.")
"""Names of the projection heads that DINO, iBOT and DINOv2 train beside the backbone and then
discard."""

HEAD_WIDTH = 64
HEAD_ATTENTION_WIDTH = 128
HEAD_LAYERS = 2
HEAD_FIRST_STAGE_WIDTH = 192
HEAD_STAGE_WIDTH = 128
RGB = 3


class _Tensor(NamedTuple):
    """Where a tensor goes, the shape it must have in PyTorch, and how its axes turn for Flax."""

    path: str
    shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray]


HEAD_SIZE = 64
"""Channels of an attention head in nearly all released vision transformers of this family: those of
MoCo v3's ViT-S have 32, those of MAE's ViT-H 80."""


def port_backbone(
    state_dict: Mapping[str, np.ndarray], num_heads: int | None = None
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Make the module of a vision transformer and convert its weights.

    Takes DINO, iBOT, DINOv2, DINOv3, MAE and MoCo v3 by the names of their repositories, of
    transformers or of timm. Patch size, width, depth, registers, kind of position and of
    feed-forward are read off names and shapes.

    Args:
        state_dict: tensors by name.
        num_heads: attention heads; by default as many as have 64 channels each.

    Returns:
        The module, and its parameters, float32: ``module.apply({"params": params}, image)``.

    Raises:
        ValueError: tensors are missing, left over, misshapen or not finite; all are named. Or the
            heads do not divide the width.
    """
    tensors, sources = to_original_names(state_dict)
    shapes = {name: np.shape(tensor) for name, tensor in tensors.items()}
    module = _infer_vit(shapes, num_heads)
    expected = _vit_tensors(module, shapes)
    tree = _port(tensors, expected, "vision transformer", sources)
    if not module.num_heads or module.width % (num_heads or HEAD_SIZE):
        raise ValueError(
            f"the weights are of a vision transformer of width {module.width}: "
            f"{num_heads or HEAD_SIZE} {'heads' if num_heads else 'channels a head'} do not divide "
            "it, give num_heads"
        )
    params: dict[str, Any] = tree["params"]
    return module, params


def port_vit(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Convert a backbone to parameters of ``VisionTransformer``, see :func:`port_backbone`.

    Args:
        state_dict: tensors by name.

    Returns:
        The ``params`` collection, float32.

    Raises:
        ValueError: tensors are missing, left over, misshapen or not finite; all are named.
    """
    return port_backbone(state_dict, num_heads=1)[1]


def port_head(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Convert the released segmenter to variables of ``SegmentationHead``.

    The number of stages (3 at patch 8, 4 at patch 16) and the channels of the keys are read off
    the tensors. PyTorch's ``num_batches_tracked`` has no use here and may be present or not.

    Args:
        state_dict: tensors by the released segmenter's names (``layers.0.0.weight``).

    Returns:
        ``{"params": ..., "batch_stats": ...}``, float32.

    Raises:
        ValueError: tensors are missing, left over, misshapen, not finite or negative variances; all
            are named.
    """
    tensors = _head_tensors(state_dict)
    counters = {
        f"{name.removesuffix('running_mean')}num_batches_tracked"
        for name in tensors
        if name.endswith("running_mean")
    }
    kept = {name: tensor for name, tensor in state_dict.items() if name not in counters}
    return _port(kept, tensors, "segmentation head (released names)")


def drop_projection_head(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state dict of a whole self-supervised network without its projection head."""
    return {name: tensor for name, tensor in state_dict.items() if not PROJECTION_HEAD.match(name)}


def _port(
    state_dict: Mapping[str, np.ndarray],
    tensors: Mapping[str, _Tensor],
    what: str,
    sources: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}

    def called(name: str) -> str:
        return sources.get(name) or source_name(name, sources)

    if problems := tensor_problems(state_dict, shapes, called):
        raise ValueError(f"the weights are not those of a {what}; tensors\n{problems}")
    flat = {
        tensor.path: jnp.asarray(tensor.convert(np.asarray(state_dict[name], np.float32)))
        for name, tensor in tensors.items()
    }
    return unflatten(flat, "")


def _infer_vit(shapes: Mapping[str, tuple[int, ...]], num_heads: int | None) -> VisionTransformer:
    # Many tensors tell width and hidden features: the majority is right where one is wrong.
    norms = Counter(
        shape[0]
        for name, shape in shapes.items()
        if re.search(r"norm\d?\.weight$", name) and len(shape) == 1
    )
    width = norms.most_common(1)[0][0] if norms else 0
    hidden = Counter(
        shape[0]
        for name, shape in shapes.items()
        if name.endswith(("mlp.fc1.weight", "mlp.fc1.bias")) and shape
    )
    features = hidden.most_common(1)[0][0] if hidden else MLP_RATIO * width
    return make_vit(
        patch_size=_side(shapes, "patch_embed.proj.weight", 2),
        width=width,
        depth=max(_count(r"blocks\.(\d+)\.", shapes), 1),
        num_heads=num_heads,
        registers=_side(shapes, "registers", 1),
        # A file that has lost its embedding has no registers, and is told what it lacks.
        is_rotary="pos_embed" not in shapes and "registers" in shapes,
        hidden=features,
        gated=any(".mlp.gate." in name for name in shapes),
        layer_scale=any(name.endswith(".ls1.gamma") for name in shapes),
    )


def make_vit(
    *,
    width: int,
    num_heads: int | None,
    registers: int,
    is_rotary: bool,
    hidden: int,
    **shape: int | bool,
) -> VisionTransformer:
    """Make the module of a shape: what else the families differ in follows from it."""
    learned = LEARNED_ANTIALIASED if registers else LEARNED
    options: dict[str, Any] = dict(shape)
    return VisionTransformer(
        width=width,
        num_heads=width // HEAD_SIZE if num_heads is None else num_heads,
        registers=registers,
        position=ROTARY if is_rotary else learned,
        hidden=None if hidden == MLP_RATIO * width else hidden,
        eps=1e-5 if is_rotary else 1e-6,
        **options,
    )


def _vit_tensors(
    module: VisionTransformer, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, _Tensor]:
    width, patch_size = module.width, module.patch_size
    hidden = module.hidden or MLP_RATIO * width
    tensors = {
        "cls_token": _Tensor("params/class_token", (1, 1, width), _same),
        "patch_embed.proj.weight": _Tensor(
            "params/patch_embedding/kernel", (width, RGB, patch_size, patch_size), _convolution
        ),
        "patch_embed.proj.bias": _Tensor("params/patch_embedding/bias", (width,), _same),
        **_norm("norm", "norm", width),
    }
    if module.position != ROTARY:
        grid = math.isqrt(max(_side(shapes, "pos_embed", 1) - 1, 0))
        shape = (1, 1 + grid * grid, width)
        tensors["pos_embed"] = _Tensor("params/position_embedding", shape, _same)
    if module.registers:
        shape = (1, module.registers, width)
        tensors["registers"] = _Tensor("params/registers", shape, _same)
    for index in range(module.depth):
        source, target = f"blocks.{index}", f"block_{index}"
        tensors |= _norm(f"{source}.norm1", f"{target}/attention_norm", width)
        tensors |= _dense(f"{source}.attn.qkv", f"{target}/query_key_value", width, 3 * width)
        tensors |= _dense(f"{source}.attn.proj", f"{target}/attention_output", width, width)
        tensors |= _norm(f"{source}.norm2", f"{target}/mlp_norm", width)
        tensors |= _dense(f"{source}.mlp.fc1", f"{target}/mlp_hidden", width, hidden)
        tensors |= _dense(f"{source}.mlp.fc2", f"{target}/mlp_output", hidden, width)
        if module.gated:
            tensors |= _dense(f"{source}.mlp.gate", f"{target}/mlp_gate", width, hidden)
        if module.layer_scale:
            for number, name in ((1, "attention_scale"), (2, "mlp_scale")):
                path = f"params/{target}/{name}"
                tensors[f"{source}.ls{number}.gamma"] = _Tensor(path, (width,), _same)
    return tensors


def _head_tensors(state_dict: Mapping[str, np.ndarray]) -> dict[str, _Tensor]:
    shapes = {name: np.shape(tensor) for name, tensor in state_dict.items()}
    channels = _side(shapes, "conv_input.weight", 1)
    stages = max(_count(r"layers\.(\d+)\.", shapes), 2)

    tensors = _pointwise("conv_input", "input_projection", channels, HEAD_WIDTH)
    for index in range(HEAD_LAYERS):
        source, target = f"inp_transformer.layers.{index}", f"transformer_{index}"
        tensors |= _norm(f"{source}.0.norm", f"{target}/attention_norm", HEAD_WIDTH)
        tensors[f"{source}.0.fn.to_qkv.weight"] = _Tensor(
            f"params/{target}/query_key_value/kernel",
            (3 * HEAD_ATTENTION_WIDTH, HEAD_WIDTH),
            np.transpose,
        )
        tensors |= _dense(
            f"{source}.0.fn.to_out.0",
            f"{target}/attention_output",
            HEAD_ATTENTION_WIDTH,
            HEAD_WIDTH,
        )
        tensors |= _norm(f"{source}.1.norm", f"{target}/mlp_norm", HEAD_WIDTH)
        tensors |= _dense(f"{source}.1.fn.net.0", f"{target}/mlp_hidden", HEAD_WIDTH, HEAD_WIDTH)
        tensors |= _dense(f"{source}.1.fn.net.3", f"{target}/mlp_output", HEAD_WIDTH, HEAD_WIDTH)
    tensors |= _pointwise("conv_coarse", "coarse_projection", HEAD_WIDTH, 1)

    widths = [HEAD_WIDTH, HEAD_FIRST_STAGE_WIDTH, *[HEAD_STAGE_WIDTH] * (stages - 1)]
    for stage, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        source, target = f"layers.{stage}", f"stage_{stage}"
        tensors |= _conv_block(source, 0, f"{target}/block_0", inputs + RGB, outputs)
        if stage == stages - 1:
            tensors |= _conv_block(source, 3, f"{target}/block_1", outputs, outputs)
    return tensors | _pointwise("conv_final", "fine_projection", HEAD_STAGE_WIDTH + RGB, 1)


def _count(pattern: str, names: Mapping[str, Any]) -> int:
    """Return one more than the largest index that the pattern finds at the start of a name.

    No more than there are names: an absurd index is one tensor that is not known.
    """
    found = (re.match(pattern, name) for name in names)
    # Longer numbers are slow to read, and Python refuses the longest.
    count = max((int(m[1][:9]) + 1 for m in found if m), default=0)
    return min(count, len(names))


def _side(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    """Return a side of a tensor, 0 where the tensor or the axis is absent."""
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else 0


def _same(tensor: np.ndarray) -> np.ndarray:
    return tensor


def _convolution(kernel: np.ndarray) -> np.ndarray:
    """Turn [out, in, h, w] into [h, w, in, out]."""
    return kernel.transpose(2, 3, 1, 0)


def _pointwise_convolution(kernel: np.ndarray) -> np.ndarray:
    """Turn [out, in, 1, 1] into the [in, out] of a dense layer."""
    return kernel[:, :, 0, 0].T


def _norm(source: str, target: str, width: int) -> dict[str, _Tensor]:
    return {
        f"{source}.weight": _Tensor(f"params/{target}/scale", (width,), _same),
        f"{source}.bias": _Tensor(f"params/{target}/bias", (width,), _same),
    }


def _dense(source: str, target: str, inputs: int, outputs: int) -> dict[str, _Tensor]:
    return {
        f"{source}.weight": _Tensor(f"params/{target}/kernel", (outputs, inputs), np.transpose),
        f"{source}.bias": _Tensor(f"params/{target}/bias", (outputs,), _same),
    }


def _pointwise(source: str, target: str, inputs: int, outputs: int) -> dict[str, _Tensor]:
    return {
        f"{source}.weight": _Tensor(
            f"params/{target}/kernel", (outputs, inputs, 1, 1), _pointwise_convolution
        ),
        f"{source}.bias": _Tensor(f"params/{target}/bias", (outputs,), _same),
    }


def _conv_block(
    source: str, index: int, target: str, inputs: int, outputs: int
) -> dict[str, _Tensor]:
    """Map the convolution at ``index`` of a PyTorch sequence and the batch norm after it."""
    convolution, norm = f"{source}.{index}", f"{source}.{index + 1}"
    return {
        f"{convolution}.weight": _Tensor(
            f"params/{target}/conv/kernel", (outputs, inputs, 3, 3), _convolution
        ),
        f"{convolution}.bias": _Tensor(f"params/{target}/conv/bias", (outputs,), _same),
        **_norm(norm, f"{target}/norm", outputs),
        f"{norm}.running_mean": _Tensor(f"batch_stats/{target}/norm/mean", (outputs,), _same),
        f"{norm}.running_var": _Tensor(f"batch_stats/{target}/norm/var", (outputs,), _same),
    }
