"""The other side of ``scripts/benchmark.py`` in PyTorch, written from the same equations.

The first functions make one side of a row each. Parameters are Flax's trees, images and masks
``[B, C, H, W]``, tokens and keys ``[B, N, D]``, where nothing else is said.
"""

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sempart_jax.kernels.host_guided_filter import guided_radius
from sempart_jax.kernels.normalization import IMAGENET_MEAN, IMAGENET_STD
from sempart_jax.two_tricks.objective import LossWeights

Tree = dict[str, Any]
Run = Callable[[], Any]
NEIGHBOURS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def use_device(name: str) -> None:
    """Compute on ``cpu`` or ``cuda``, in full float32 as ours does.

    Raises:
        ValueError: if PyTorch has no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "JAX has a GPU and PyTorch has none: install PyTorch with CUDA, or use --device=cpu"
        )
    if name == "cuda":
        # On a CPU it would slow every call down.
        torch.set_default_device(name)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def finished(run: Run, plain: bool) -> Run:
    """Return a function that waits for the device, with attention as ``plain`` says."""

    def call() -> Any:
        # Plain: two matrix products and a softmax, as in most research code.
        with sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext():
            outputs = run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return outputs

    return call


def ncut(keys: np.ndarray, mask: np.ndarray) -> Run:
    """N-cut of keys ``[B, h, w, D]`` and its gradient to the mask ``[B, h, w, 1]``."""
    tokens, leaf = torch.tensor(keys).flatten(1, 2), torch.tensor(mask).requires_grad_()

    def run() -> list[Tensor]:
        value = normalized_cut(tokens, leaf)
        return [value.detach(), *torch.autograd.grad(value, leaf)]

    return run


def guided(image: np.ndarray, mask: np.ndarray, radius: int) -> Run:
    """Guided filter of a mask ``[H, W]`` by the mean of R, G and B."""

    def run() -> list[Tensor]:
        guide = from_images(image[None]).mean(1, keepdim=True)
        return [guided_filter(guide, torch.tensor(mask)[None, None], radius)[0, 0]]

    return run


def training(frozen: Any, variables: Any, images: np.ndarray, tricks: bool, plain: bool) -> Run:
    """A step of AdamW: the loss and the norm of its gradient."""
    backbone, trained = from_flax(frozen, plain), from_flax(variables, plain)
    head, stats = trained["params"], trained["batch_stats"]
    leaves = [leaf.requires_grad_() for leaf in jax.tree.leaves(head)]
    optimizer = torch.optim.AdamW(leaves, 1e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)

    def run() -> list[Tensor]:
        loss = total_loss(backbone, head, stats, from_images(images), tricks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss.detach(), norm(leaf.grad for leaf in leaves)]

    return run


def masks(frozen: Any, variables: Any, images: np.ndarray, plain: bool) -> Run:
    """Fine masks ``[B, H, W]``, sharpened by the guided filter."""
    backbone, trained = from_flax(frozen, plain), from_flax(variables, plain)
    parameters, stats = trained["params"], trained["batch_stats"]
    radius = guided_radius(*images.shape[1:3])

    @torch.no_grad()
    def run() -> list[Tensor]:
        image = from_images(images)
        tokens = head_tokens(parameters, vit_keys(backbone, normalize(image)))
        fine = fine_mask(parameters, stats, tokens, normalize(image), train=False)
        filtered = guided_filter(image.mean(1, keepdim=True), fine, radius)
        return [filtered[:, 0].clamp(0, 1).cpu()]

    return run


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """Norm of several tensors as one vector."""
    return torch.stack([tensor.norm() for tensor in tensors]).norm()


def from_flax(tree: Any, plain: bool = False) -> Any:
    """Copy Flax parameters, kernels transposed; convolutions channels last unless ``plain``."""

    def convert(leaf: Any) -> Tensor:
        tensor = torch.tensor(np.asarray(leaf))
        if tensor.dim() == 2:
            return tensor.T.contiguous()
        if tensor.dim() == 4:
            layout = torch.contiguous_format if plain else torch.channels_last
            return tensor.permute(3, 2, 0, 1).contiguous(memory_format=layout)
        return tensor

    return jax.tree.map(convert, tree)


def from_images(images: np.ndarray) -> Tensor:
    """Take uint8 ``[B, H, W, 3]`` to RGB in [0, 1]."""
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 255


def normalize(image: Tensor) -> Tensor:
    """Take RGB in [0, 1] to ImageNet's zero mean and unit variance a channel."""
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def dense(p: Tree, x: Tensor) -> Tensor:
    """Apply a dense layer."""
    return F.linear(x, p["kernel"], p.get("bias"))


def layer_norm(p: Tree, x: Tensor, eps: float) -> Tensor:
    """Normalise each token."""
    return F.layer_norm(x, x.shape[-1:], p["scale"], p["bias"], eps)


def transformer_layer(p: Tree, x: Tensor, heads: int, eps: float) -> Tensor:
    """Apply a pre-norm transformer layer, of the backbone or of the head."""
    qkv = dense(p["query_key_value"], layer_norm(p["attention_norm"], x, eps))
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value)
    x = x + dense(p["attention_output"], mixed.transpose(1, 2).flatten(2))
    hidden = F.gelu(dense(p["mlp_hidden"], layer_norm(p["mlp_norm"], x, eps)))
    return x + dense(p["mlp_output"], hidden)


@torch.no_grad()
def vit_keys(p: Tree, image: Tensor, heads: int = 6, eps: float = 1e-6) -> Tensor:
    """Compute the keys of the last block of DINO's vision transformer ``[B, N, D]``."""
    kernel = p["patch_embedding"]["kernel"]
    patches = F.conv2d(image, kernel, p["patch_embedding"]["bias"], stride=kernel.shape[-1])
    grid = patches.shape[2:]
    patches = patches.flatten(2).transpose(1, 2)
    x = torch.cat([p["class_token"].expand(len(image), -1, -1), patches], dim=1)
    table = p["position_embedding"]
    side = math.isqrt(table.shape[1] - 1)
    trained = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    # s = (n + 0.1) / N, as DINO was released
    scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    resampled = F.interpolate(trained, scale_factor=scale, mode="bicubic")
    x = x + torch.cat([table[:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)
    depth = sum(name.startswith("block_") for name in p)
    for index in range(depth - 1):
        x = transformer_layer(p[f"block_{index}"], x, heads, eps)
    last = p[f"block_{depth - 1}"]
    width = x.shape[-1]
    key = {name: leaf[width : 2 * width] for name, leaf in last["query_key_value"].items()}
    return dense(key, layer_norm(last["attention_norm"], x, eps))[:, 1:]


def head_tokens(p: Tree, keys: Tensor) -> Tensor:
    """Compute what both branches of the head share ``[B, N, 64]``."""
    x = dense(p["input_projection"], keys)
    for index in range(2):
        x = transformer_layer(p[f"transformer_{index}"], x, heads=2, eps=1e-5)
    return x


def coarse_mask(p: Tree, tokens: Tensor) -> Tensor:
    """Predict the coarse mask of a square image ``[B, 1, h, w]``."""
    grid = math.isqrt(tokens.shape[1])
    return (
        dense(p["coarse_projection"], tokens).sigmoid().transpose(1, 2).unflatten(2, (grid, grid))
    )


def fine_mask(p: Tree, stats: Tree | None, tokens: Tensor, image: Tensor, train: bool) -> Tensor:
    """Predict the fine mask ``[B, 1, H, W]`` from a normalised image.

    In training batch norm takes the batch's statistics, and moves the running ones if it has them.
    """
    grid = math.isqrt(tokens.shape[1])
    x = tokens.transpose(1, 2).unflatten(2, (grid, grid))
    for stage in sorted(name for name in p if name.startswith("stage_")):
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = torch.cat([x, F.interpolate(image, x.shape[2:], mode="bilinear")], dim=1)
        for name, block in sorted(p[stage].items()):
            x = F.conv2d(x, block["conv"]["kernel"], block["conv"]["bias"], padding=1)
            running = stats[stage][name]["norm"] if stats else {"mean": None, "var": None}
            scale, bias = block["norm"]["scale"], block["norm"]["bias"]
            x = F.batch_norm(x, running["mean"], running["var"], scale, bias, train)
            x = F.leaky_relu(x, 0.01)
    x = torch.cat([x, image], dim=1)
    last = p["fine_projection"]
    return F.conv2d(x, last["kernel"][..., None, None], last["bias"]).sigmoid()


def total_loss(backbone: Tree, head: Tree, stats: Tree, image: Tensor, tricks: bool) -> Tensor:
    """Sum all loss terms (Eq. 10) of RGB in [0, 1]; trick 2 zooms into the middle of each image."""
    normalized = normalize(image)
    keys = vit_keys(backbone, normalized)
    tokens = head_tokens(head, keys)
    coarse, fine = coarse_mask(head, tokens), fine_mask(head, stats, tokens, normalized, True)
    weights = LossWeights()
    total = (
        weights.ncut * normalized_cut(keys, coarse)
        + weights.gtv_fine * total_variation_fine(normalized, fine)
        + weights.gtv_coarse * total_variation_coarse(keys, coarse)
        + weights.consistency
        * F.mse_loss(coarse, F.interpolate(fine, coarse.shape[2:], mode="bilinear"))
    )
    if not tricks:
        return total
    zoomed = zoom(image)
    normalized = normalize(zoomed)
    keys = vit_keys(backbone, normalized)
    tokens = head_tokens(head, keys)
    with torch.no_grad():
        teacher = fine_mask(head, None, tokens, normalized, True)
        target = guided_filter(zoomed.mean(1, keepdim=True), teacher, 9).clamp(1e-6, 1 - 1e-6)
    return (
        total
        + weights.ncut_crop * normalized_cut(keys, coarse_mask(head, tokens))
        + weights.equivariance * F.mse_loss(zoom(fine), target)
    )


def normalized_cut(keys: Tensor, mask: Tensor, tau: float = 0.4, eps: float = 1e-6) -> Tensor:
    """Cost of the soft two-way cut of the patch graph by the coarse mask (Eq. 5)."""
    with torch.no_grad():
        unit = F.normalize(keys, dim=-1)
        affinity = torch.where(unit @ unit.transpose(1, 2) > tau, 1.0, eps)
    s = mask.flatten(1).clamp(eps, 1 - eps)
    sides = torch.stack([s, 1 - s], dim=-1)
    links = sides.transpose(1, 2) @ (affinity @ sides)
    cut = links[:, 0, 1]
    return (cut / (links[:, 0, 0] + cut) + cut / (links[:, 1, 0] + links[:, 1, 1])).mean()


def neighbours(x: Tensor) -> list[Tensor]:
    """Return the 8 neighbours of all pixels, the image reflected at its border."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    return [padded[:, :, 1 + i : 1 + i + height, 1 + j : 1 + j + width] for i, j in NEIGHBOURS]


def total_variation(mask: Tensor, weights: list[Tensor]) -> Tensor:
    """Mean of weighted squared differences of neighbours."""
    pairs = zip(weights, neighbours(mask), strict=True)
    return torch.stack([weight * (mask - other) ** 2 for weight, other in pairs]).mean()


def total_variation_fine(image: Tensor, mask: Tensor) -> Tensor:
    """Total variation of the fine mask, weighted by colour (Eq. 7-9)."""
    weights = [(-((image - x) ** 2).sum(1, keepdim=True)).exp() for x in neighbours(image)]
    return total_variation(mask, weights)


def total_variation_coarse(
    keys: Tensor, mask: Tensor, tau: float = 0.4, eps: float = 1e-6
) -> Tensor:
    """Total variation of the coarse mask, weighted by the affinity of patches (Eq. 7-9)."""
    unit = F.normalize(keys, dim=-1).transpose(1, 2).unflatten(2, mask.shape[2:])
    cosines = [(unit * x).sum(1, keepdim=True) for x in neighbours(unit)]
    return total_variation(mask, [torch.where(cosine > tau, 1.0, eps) for cosine in cosines])


def zoom(x: Tensor) -> Tensor:
    """Enlarge the middle of each image to the whole image's size."""
    height, width = x.shape[2:]
    middle = x[:, :, height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2]
    return F.interpolate(middle, (height, width), mode="bilinear")


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over a square window clipped at the border, by the faster way for the size."""
    for axis in (2, 3):
        if x[0, 0].numel() >= 2**20:
            kernel, padding = [1, 1], [0, 0]
            kernel[axis - 2], padding[axis - 2] = 2 * radius + 1, radius
            x = F.avg_pool2d(x, kernel, 1, padding, count_include_pad=False)
            continue
        size = x.shape[axis]
        index = torch.arange(size)
        upper, lower = (index + radius + 1).clamp(max=size), (index - radius).clamp(min=0)
        sums = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), x.cumsum(axis)], axis)
        counts = (upper - lower).to(x.dtype).view([-1, 1] if axis == 2 else [-1])
        x = (sums.index_select(axis, upper) - sums.index_select(axis, lower)) / counts
    return x


def guided_filter(guide: Tensor, src: Tensor, radius: int, eps: float = 1e-3) -> Tensor:
    """Filter a mask along the edges of a grey guide (He et al., TPAMI 2012)."""
    moments = torch.cat([guide, src, guide * guide, guide * src], dim=1)
    guide_mean, src_mean, square, cross = window_mean(moments, radius).split(1, dim=1)
    # a = cov(I, p) / (var(I) + eps),  b = mean(p) - a mean(I)
    slope = (cross - guide_mean * src_mean) / (square - guide_mean * guide_mean + eps)
    fits = torch.cat([slope, src_mean - slope * guide_mean], dim=1)
    slope, intercept = window_mean(fits, radius).split(1, dim=1)
    return slope * guide + intercept
