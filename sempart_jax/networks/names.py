"""Backbones and networks by name, and the backbones' shapes: known before JAX is imported."""

import dataclasses
from collections.abc import Mapping

HANDCRAFTED = "handcrafted"
RANDOM_WEIGHTS = "random"
"""Stands for weights drawn from a fixed seed: for timing and tests, its masks mean nothing."""

SEMPART, FOUND, SELFMASK = NETWORKS = ("sempart", "found", "selfmask")
"""Sempart's head (arXiv 2309.10972) and FOUND's decoder (arXiv 2212.07834) on a frozen backbone;
the MaskFormer of SelfMask's second stage (arXiv 2203.12614), whose encoder is trained."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Shape of a vision transformer.

    Attributes:
        patch_size: side of a square patch in pixels.
        width: channels of a token.
        depth: number of blocks.
        num_heads: attention heads of a block; divides the width.
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int


BACKBONES: Mapping[str, Architecture] = {
    "dino_vits8": Architecture(patch_size=8, width=384, depth=12, num_heads=6),
    "dino_vits16": Architecture(patch_size=16, width=384, depth=12, num_heads=6),
    "dino_vitb8": Architecture(patch_size=8, width=768, depth=12, num_heads=12),
    "dino_vitb16": Architecture(patch_size=16, width=768, depth=12, num_heads=12),
    "ibot_vits16": Architecture(patch_size=16, width=384, depth=12, num_heads=6),
    "vit_tiny8": Architecture(patch_size=8, width=192, depth=12, num_heads=3),
    "vit_tiny16": Architecture(patch_size=16, width=192, depth=12, num_heads=3),
}
"""The self-supervised backbones known by name; nobody has released weights of the tiny ones."""


def check_backbone(name: str) -> None:
    """Refuse a name that is neither in :data:`BACKBONES` nor ``handcrafted``.

    Raises:
        ValueError: as said.
    """
    known = [*BACKBONES, HANDCRAFTED]
    if name not in known:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(known)}")
