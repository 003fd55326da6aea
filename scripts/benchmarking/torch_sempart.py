"""Sempart with both tricks in PyTorch: the same training step and prediction as ours."""

import contextlib

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sempart_jax.kernels.normalization import IMAGENET_MEAN, IMAGENET_STD
from sempart_jax.networks.names import Architecture
from sempart_jax.two_tricks.objective import LossWeights

from . import torch_losses as losses
from .torch_networks import SegmentationHead, VisionTransformer

Corners = list[tuple[int, int]]


class Sempart(nn.Module):
    """Frozen backbone and trained head.

    Attributes:
        radius: radius of the guided filter in pixels.
        backbone_dtype: type of the backbone's matrix products.
        plain: PyTorch as DINO's and most research code has it, attention as two matrix products
            and a softmax, and convolutions with channels first, instead of what is fastest.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        radius: int = 9,
        trained_grid: int | None = None,
        backbone_dtype: torch.dtype = torch.float32,
        plain: bool = False,
    ):
        super().__init__()
        self.plain = plain
        self.radius, self.patch_size = radius, architecture.patch_size
        self.backbone_dtype = backbone_dtype
        self.backbone = VisionTransformer(architecture, trained_grid).requires_grad_(False)
        self.head = SegmentationHead(
            architecture.width, torch.contiguous_format if plain else torch.channels_last
        )
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def attention(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which attention is computed as ``plain`` says."""
        return sdpa_kernel(SDPBackend.MATH) if self.plain else contextlib.nullcontext()

    def normalize(self, image: Tensor) -> Tensor:
        """Take RGB in [0, 1] to ImageNet's zero mean and unit variance a channel."""
        return (image - self.get_buffer("mean")) / self.get_buffer("std")

    def keys(self, normalized: Tensor) -> Tensor:
        """Compute the backbone's keys ``[B, N, D]``."""
        low = self.backbone_dtype != torch.float32
        with torch.autocast(normalized.device.type, self.backbone_dtype, enabled=low):
            keys: Tensor = self.backbone(normalized)
        return keys

    def grid(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        return image.shape[2] // self.patch_size, image.shape[3] // self.patch_size

    @torch.no_grad()
    def predict(self, image: Tensor, *, refined: bool = True) -> Tensor:
        """Predict fine masks ``[B, 1, H, W]`` of RGB in [0, 1], guided-filtered or not."""
        normalized = self.normalize(image)
        with self.attention():
            tokens = self.head.tokens(self.keys(normalized))
        fine = self.head.fine(tokens, normalized, self.grid(image))
        return self.refine(image, fine).clamp(0, 1) if refined else fine

    def refine(self, image: Tensor, mask: Tensor) -> Tensor:
        """Filter a mask by the grey image."""
        return losses.guided_filter(image.mean(1, keepdim=True), mask, self.radius)

    def loss_terms(self, image: Tensor, corners: Corners | None) -> dict[str, Tensor]:
        """Compute every loss term of a batch.

        Args:
            image: RGB ``[B, 3, H, W]`` in [0, 1].
            corners: top-left pixels of the half-side regions of trick 2, or ``None`` without it.
        """
        grid, normalized = self.grid(image), self.normalize(image)
        keys = self.keys(normalized)
        tokens = self.head.tokens(keys)
        coarse = self.head.coarse(tokens, grid)
        fine = self.head.fine(tokens, normalized, grid)
        terms = {
            "ncut": losses.normalized_cut(keys, coarse),
            "gtv_fine": losses.graph_total_variation_fine(normalized, fine),
            "gtv_coarse": losses.graph_total_variation_coarse(keys, coarse),
            "consistency": losses.coarse_fine_consistency(coarse, fine),
        }
        if corners is not None:
            crop = image.shape[2] // 2, image.shape[3] // 2
            zoomed = losses.crop_and_zoom(image, corners, crop)
            normalized = self.normalize(zoomed)
            keys = self.keys(normalized)
            tokens = self.head.tokens(keys)
            with torch.no_grad():
                target = self.head.fine(tokens, normalized, grid, track=False)
                target = self.refine(zoomed, target).clamp(1e-6, 1 - 1e-6)
            terms["ncut_crop"] = losses.normalized_cut(keys, self.head.coarse(tokens, grid))
            student = losses.crop_and_zoom(fine, corners, crop)
            terms["equivariance"] = torch.mean((student - target) ** 2)
        return terms


def weighted_total(terms: dict[str, Tensor]) -> Tensor:
    """Weighted sum of the terms (Eq. 10), with the paper's weights."""
    weights = LossWeights()
    total = torch.zeros((), device=terms["ncut"].device)
    for name, value in terms.items():
        total = total + getattr(weights, name) * value
    return total


def make_optimizer(model: Sempart) -> torch.optim.Optimizer:
    """AdamW with the paper's settings."""
    return torch.optim.AdamW(
        model.head.parameters(), lr=1e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0
    )


def training_step(
    model: Sempart, optimizer: torch.optim.Optimizer, image: Tensor, corners: Corners | None
) -> dict[str, Tensor]:
    """Take one step; returns the terms and the total, which wait for nothing."""
    with model.attention():
        terms = model.loss_terms(image, corners)
    total = weighted_total(terms)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    return {"total": total.detach(), **{name: value.detach() for name, value in terms.items()}}
