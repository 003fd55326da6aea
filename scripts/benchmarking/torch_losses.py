"""Losses, crop-and-zoom and guided filter in PyTorch, written for the benchmark.

The same equations as in ``sempart_jax.two_tricks``: ``losses``, ``multiscale`` and ``filters``.
Masks are ``[B, 1, H, W]``, keys ``[B, N, D]``.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def normalized_cut(keys: Tensor, mask: Tensor, tau: float = 0.4, eps: float = 1e-6) -> Tensor:
    """Cost of the soft two-way cut of the patch graph by the coarse mask (Eq. 5)."""
    with torch.no_grad():
        unit = F.normalize(keys, dim=-1)
        # As ours: a rounding error may turn an edge over.
        with exact_products():
            cosine = unit @ unit.transpose(1, 2)
        affinity = torch.where(cosine > tau, 1.0, eps)
    s = mask.flatten(1).clamp(eps, 1 - eps)
    sides = torch.stack([s, 1 - s], dim=-1)
    links = sides.transpose(1, 2) @ (affinity @ sides)
    cut = links[:, 0, 1]
    return (cut / (links[:, 0, 0] + cut) + cut / (links[:, 1, 0] + links[:, 1, 1])).mean()


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Multiply matrices in full float32 for a while, without TF32 on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _neighbours(x: Tensor) -> list[Tensor]:
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    return [padded[:, :, 1 + i : 1 + i + height, 1 + j : 1 + j + width] for i, j in NEIGHBOURS]


def _weighted_variation(mask: Tensor, weights: list[Tensor]) -> Tensor:
    terms = [w * (mask - other) ** 2 for w, other in zip(weights, _neighbours(mask), strict=True)]
    return torch.stack(terms).mean()


def graph_total_variation_fine(image: Tensor, mask: Tensor, sigma: float = 1.0) -> Tensor:
    """Squared differences of neighbouring mask pixels, weighted by colour (Eq. 7-9, fine)."""
    with torch.no_grad():
        distances = [((image - x) ** 2).sum(1, keepdim=True) for x in _neighbours(image)]
        weights = [torch.exp(-distance / sigma) for distance in distances]
    return _weighted_variation(mask, weights)


def graph_total_variation_coarse(
    keys: Tensor, mask: Tensor, tau: float = 0.4, eps: float = 1e-6
) -> Tensor:
    """Squared differences of neighbouring patches, weighted by feature affinity (coarse)."""
    with torch.no_grad():
        unit = F.normalize(keys, dim=-1).transpose(1, 2).unflatten(2, mask.shape[2:])
        cosines = [(unit * x).sum(1, keepdim=True) for x in _neighbours(unit)]
        weights = [torch.where(cosine > tau, 1.0, eps) for cosine in cosines]
    return _weighted_variation(mask, weights)


def coarse_fine_consistency(coarse: Tensor, fine: Tensor) -> Tensor:
    """Mean squared difference of the coarse mask and the fine one brought down to it (Eq. 6)."""
    return F.mse_loss(coarse, F.interpolate(fine, coarse.shape[2:], mode="bilinear"))


def crop_and_zoom(x: Tensor, corners: list[tuple[int, int]], crop: tuple[int, int]) -> Tensor:
    """Cut one region out of each image and enlarge it bilinearly to the image's size."""
    regions = [
        image[:, top : top + crop[0], left : left + crop[1]]
        for image, (top, left) in zip(x, corners, strict=True)
    ]
    return F.interpolate(torch.stack(regions), x.shape[2:], mode="bilinear")


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over a square window clipped at the border, by whichever way is faster at the size.

    On two CPU cores, radius 9, four channels: running sums take 3 ms at 320x320 and 4.7 s of
    processor time at 3000x4000, pooling 15 ms and 1.8 s.
    """
    return (_mean_by_sums if x[0, 0].numel() < 2**20 else _mean_by_pooling)(x, radius)


def _mean_by_pooling(x: Tensor, radius: int) -> Tensor:
    width = 2 * radius + 1
    # Two passes of one axis: one of both takes `width` times the additions.
    for kernel, padding in (((width, 1), (radius, 0)), ((1, width), (0, radius))):
        x = F.avg_pool2d(x, kernel, 1, padding, count_include_pad=False)
    return x


def _mean_by_sums(x: Tensor, radius: int) -> Tensor:
    for axis in (2, 3):
        size = x.shape[axis]
        index = torch.arange(size, device=x.device)
        upper, lower = (index + radius + 1).clamp(max=size), (index - radius).clamp(min=0)
        zero = torch.zeros_like(x.narrow(axis, 0, 1))
        sums = torch.cat([zero, torch.cumsum(x, axis)], axis)
        counts = (upper - lower).to(x.dtype).view([-1, 1] if axis == 2 else [-1])
        x = (sums.index_select(axis, upper) - sums.index_select(axis, lower)) / counts
    return x


def guided_filter(guide: Tensor, src: Tensor, radius: int = 9, eps: float = 1e-3) -> Tensor:
    """Filter ``[B, 1, H, W]`` along the edges of a grey guide, windows clipped at the border."""
    moments = torch.cat([guide, src, guide * guide, guide * src], dim=1)
    guide_mean, src_mean, square, cross = window_mean(moments, radius).split(1, dim=1)
    # a = cov(I, p) / (var(I) + eps),  b = mean(p) - a mean(I)
    slope = (cross - guide_mean * src_mean) / (square - guide_mean * guide_mean + eps)
    intercept = src_mean - slope * guide_mean
    fit = window_mean(torch.cat([slope, intercept], dim=1), radius)
    slope_mean, intercept_mean = fit.split(1, dim=1)
    return slope_mean * guide + intercept_mean
