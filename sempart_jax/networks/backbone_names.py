"""Vision transformers by the names of their sources, brought to one set of names.

Known are the names of the original repositories (DINO, iBOT, DINOv2, DINOv3, MAE, MoCo v3), of
transformers in its older and newer files, and of timm. All become those of the original DINO, with
``registers``, ``blocks.N.ls1.gamma`` and ``mlp.gate`` beside ``mlp.fc1`` where there are some.
"""

import re
from collections.abc import Mapping

import numpy as np

_IGNORED = re.compile(
    r"mask_token|embeddings\.mask_token|pooler\.|head\.|head_dist\.|fc_norm\."
    r"|decoder_|decoder\.|predictor\.|momentum_encoder\."
)
"""What training, or a task on top, has beside the backbone."""

_PREFIXES = re.compile(r"^(base_encoder\.|vit\.|dinov2\.|dinov3_vit\.)")

_RENAMED = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^(embeddings\.register_tokens|register_tokens|storage_tokens|reg_token)$", "registers"),
    (r"^(encoder\.layer|model\.layer|layers?)\.(\d+)\.", r"blocks.\2."),
    (r"^(layernorm|model\.norm)\.", "norm."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.attention\.attention\.(query|key|value)\.", r"\1.attn.\2."),
    (r"^(blocks\.\d+)\.attention\.q_proj\.", r"\1.attn.query."),
    (r"^(blocks\.\d+)\.attention\.k_proj\.", r"\1.attn.key."),
    (r"^(blocks\.\d+)\.attention\.v_proj\.", r"\1.attn.value."),
    (r"^(blocks\.\d+)\.attention\.(output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.attn\.q_bias$", r"\1.attn.query.bias"),
    (r"^(blocks\.\d+)\.attn\.v_bias$", r"\1.attn.value.bias"),
    (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1$", r"\1.ls\2.gamma"),
    (r"^(blocks\.\d+)\.gamma_([12])$", r"\1.ls\2.gamma"),
    (r"^(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.mlp\.(weights_in|w12)\.", r"\1.mlp.packed."),
    (r"^(blocks\.\d+)\.mlp\.(gate_proj|w1|fc1_g)\.", r"\1.mlp.gate."),
    (r"^(blocks\.\d+)\.mlp\.(up_proj|w2|fc1_x)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.(down_proj|weights_out|w3)\.", r"\1.mlp.fc2."),
)


def original_name(name: str) -> str:
    """Return the original DINO's name of a tensor of any source; an unknown one stays."""
    name = _PREFIXES.sub("", name)
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def to_original_names(
    state_dict: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Bring the tensors of a backbone to the original DINO's names and layout.

    Queries, keys and values become one ``attn.qkv``; where keys have no bias it is zero, and a
    ``bias_mask`` is applied. Packed gates are unpacked. A position embedding without a row for the
    class token (timm's, with registers) gets one of zeros. Left out are mask tokens, heads and
    decoders of training, and the periods of rotary embedding, which are a constant.

    Args:
        state_dict: tensors by the names of their source.

    Returns:
        Tensors by the original names, and the name that each has in ``state_dict``.

    Raises:
        ValueError: two tensors have one name, a part of a block is missing, or the periods are not
            those of DINOv3.
    """
    tensors: dict[str, np.ndarray] = {}
    sources: dict[str, str] = {}
    for source, tensor in state_dict.items():
        if _IGNORED.match(_PREFIXES.sub("", source)):
            continue
        name = original_name(source)
        if name in tensors:
            raise ValueError(f"the weights hold {sources[name]} and {source}, which are one tensor")
        tensors[name], sources[name] = np.asarray(tensor), source
    _drop_periods(tensors, sources)
    # No block of DINOv3 has a bias of its keys; one that alone lacks it has lost it.
    lacks_bias = not any(re.search(r"\.attn\.(key|qkv)\.bias$", name) for name in tensors)
    for name in sorted(tensors):
        if match := re.match(r"(blocks\.\d+\.attn)\.query\.(weight|bias)$", name):
            _join_qkv(tensors, sources, match[1], match[2], lacks_bias)
    for name in sorted(tensors):
        if match := re.match(r"(blocks\.\d+\.mlp)\.packed\.(weight|bias)$", name):
            packed, source = tensors.pop(name), sources.pop(name)
            halves = np.split(packed, 2) if packed.ndim and len(packed) % 2 == 0 else [packed] * 2
            for part, half in zip(("gate", "fc1"), halves, strict=True):
                target = f"{match[1]}.{part}.{match[2]}"
                tensors[target], sources[target] = half, source
        elif name.endswith(".attn.qkv.bias_mask"):
            bias = name.removesuffix("_mask")
            mask = tensors.pop(name)
            if bias in tensors and tensors[bias].shape == mask.shape:
                # Zero times what may stand there, which may be NaN.
                tensors[bias] = np.where(mask > 0, tensors[bias], 0)
    for name in sorted(tensors):
        if match := re.match(r"(blocks\.\d+\.attn\.qkv)\.weight$", name):
            bias = f"{match[1]}.bias"
            if bias not in tensors and lacks_bias and "pos_embed" not in tensors:
                tensors[bias] = np.zeros(tensors[name].shape[:1], np.float32)
                sources[bias] = sources[name]
    position = tensors.get("pos_embed")
    has_no_class_row = (
        position is not None
        and position.ndim == 3
        and "registers" in tensors
        and _is_square(position.shape[1])
        and not _is_square(position.shape[1] - 1)
    )
    if position is not None and has_no_class_row:
        class_row = np.zeros_like(position[:, :1])
        tensors["pos_embed"] = np.concatenate([class_row, position], axis=1)
    return tensors, sources


def source_name(name: str, sources: Mapping[str, str]) -> str:
    """Return the name that a missing tensor would have, as the same tensor of another block has."""
    if match := re.match(r"blocks\.(\d+)\.(.+)$", name):
        for other, source in sources.items():
            twin = re.match(r"blocks\.(\d+)\.(.+)$", other)
            if twin and twin[2] == match[2]:
                return re.sub(rf"\.{twin[1]}\.", f".{match[1]}.", source, count=1)
    return name


def _join_qkv(
    tensors: dict[str, np.ndarray],
    sources: dict[str, str],
    attention: str,
    kind: str,
    lacks_bias: bool,
) -> None:
    names = [f"{attention}.{part}.{kind}" for part in ("query", "key", "value")]
    if kind == "bias" and lacks_bias:
        tensors[names[1]] = np.zeros_like(tensors[names[0]])
    missing = [name for name in names if name not in tensors]
    if missing:
        listed = ", ".join(source_name(name, sources) for name in missing)
        raise ValueError(f"the weights lack {listed} beside {sources[names[0]]}")
    parts = [tensors.pop(name) for name in names]
    joined = f"{attention}.qkv.{kind}"
    sources[joined] = sources[names[0]]
    if len({part.shape for part in parts}) > 1:
        shapes = ", ".join(
            f"{sources.get(n, n)} {p.shape}" for n, p in zip(names, parts, strict=True)
        )
        raise ValueError(f"tensors of one attention have different shapes: {shapes}")
    tensors[joined] = np.concatenate(parts)


def _drop_periods(tensors: dict[str, np.ndarray], sources: dict[str, str]) -> None:
    periods = tensors.pop("rope_embed.periods", None)
    if periods is None:
        return
    expected = 100.0 ** (np.arange(periods.size) / max(periods.size, 1))
    # Some files keep them in bfloat16.
    if not np.allclose(np.asarray(periods, np.float64).reshape(-1), expected, rtol=1e-2):
        source = sources.pop("rope_embed.periods")
        raise ValueError(f"{source}: rotary periods other than DINOv3's are not known")


def _is_square(number: int) -> bool:
    return round(number**0.5) ** 2 == number
