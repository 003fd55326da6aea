"""Backbones and networks by name, and the backbones' shapes: known before JAX is imported."""

import dataclasses
from collections.abc import Mapping

HANDCRAFTED = "handcrafted"
ANY_VIT = "vit"
"""Any vision transformer of the DINO family, whose shape is read off its file of weights."""
RANDOM_WEIGHTS = "random"
"""Stands for weights drawn from a fixed seed: for timing and tests, its masks mean nothing."""

SEMPART, FOUND, SELFMASK, UNET = NETWORKS = ("sempart", "found", "selfmask", "unet")
"""Sempart's head (arXiv 2309.10972) and FOUND's decoder (arXiv 2212.07834) on a frozen backbone;
the MaskFormer of SelfMask's second stage (arXiv 2203.12614), whose encoder is trained; and a U-Net
(arXiv 1505.04597), which has no backbone."""
NO_BACKBONE = "none"
"""The name of the backbone where there is none."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Shape of a vision transformer.

    Attributes:
        patch_size: side of a square patch in pixels.
        width: channels of a token.
        depth: number of blocks.
        num_heads: attention heads of a block; divides the width.
        registers: register tokens beside the class token.
        position: kind of position embedding, see ``two_tricks.vit.POSITIONS``.
        hidden: features inside the feed-forward; four times the width by default.
        gated: feed-forward SwiGLU instead of an MLP.
        layer_scale: learned scales of the residual branches.
        eps: of the layer norms.
        trained_grid: side of the grid of the position embedding, if not that of 224 pixels.
        features: which of :data:`FEATURES` tell object from background best. Keys for DINO
            (TokenCut, arXiv 2202.11539, Sec. 3.2); tokens for DINOv2 and DINOv3, whose keys are all
            alike.
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int
    registers: int = 0
    position: str = "learned"
    hidden: int | None = None
    gated: bool = False
    layer_scale: bool = False
    eps: float = 1e-6
    trained_grid: int | None = None
    features: str = "keys"


FEATURES = ("keys", "queries", "values", "tokens")
"""What a vision transformer shows of patches: of its last block, or after its last norm."""


def _dinov2(width: int, depth: int, *, registers: int = 0) -> Architecture:
    return Architecture(
        patch_size=14,
        width=width,
        depth=depth,
        num_heads=width // 64,
        registers=registers,
        position="learned_antialiased" if registers else "learned",
        layer_scale=True,
        trained_grid=37,
        features="tokens",
    )


def _dinov3(width: int, depth: int, *, hidden: int | None = None) -> Architecture:
    return Architecture(
        patch_size=16,
        width=width,
        depth=depth,
        num_heads=width // 64,
        registers=4,
        position="rotary",
        hidden=hidden,
        gated=hidden is not None,
        layer_scale=True,
        eps=1e-5,
        features="tokens",
    )


BACKBONES: Mapping[str, Architecture] = {
    "dino_vits8": Architecture(patch_size=8, width=384, depth=12, num_heads=6),
    "dino_vits16": Architecture(patch_size=16, width=384, depth=12, num_heads=6),
    "dino_vitb8": Architecture(patch_size=8, width=768, depth=12, num_heads=12),
    "dino_vitb16": Architecture(patch_size=16, width=768, depth=12, num_heads=12),
    "ibot_vits16": Architecture(patch_size=16, width=384, depth=12, num_heads=6),
    "dinov2_vits14": _dinov2(384, 12),
    "dinov2_vitb14": _dinov2(768, 12),
    "dinov2_vitl14": _dinov2(1024, 24),
    "dinov2_vits14_reg": _dinov2(384, 12, registers=4),
    "dinov2_vitb14_reg": _dinov2(768, 12, registers=4),
    "dinov2_vitl14_reg": _dinov2(1024, 24, registers=4),
    "dinov3_vits16": _dinov3(384, 12),
    "dinov3_vits16plus": _dinov3(384, 12, hidden=1536),
    "dinov3_vitb16": _dinov3(768, 12),
    "dinov3_vitl16": _dinov3(1024, 24),
    "vit_tiny8": Architecture(patch_size=8, width=192, depth=12, num_heads=3),
    "vit_tiny16": Architecture(patch_size=16, width=192, depth=12, num_heads=3),
}
"""The self-supervised backbones known by name; nobody has released weights of the tiny ones."""


def check_backbone(name: str) -> None:
    """Refuse a name that is neither in :data:`BACKBONES` nor ``handcrafted`` nor ``vit``."""
    known = [*BACKBONES, ANY_VIT, HANDCRAFTED]
    if name not in known:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(known)}")
