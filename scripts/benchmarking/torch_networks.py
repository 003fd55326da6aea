"""The frozen backbone and the Sempart head in PyTorch, written for the benchmark.

Modules and parameters are called as their Flax counterparts, so that one rule maps the weights:
:func:`load_flax`. Images are ``[B, 3, H, W]``, keys ``[B, N, D]``.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sempart_jax.networks.names import Architecture
from sempart_jax.two_tricks.vit import LAYER_NORM_EPS, MLP_RATIO, PRETRAINING_SIZE

WIDTH = 64
STAGE_CHANNELS = (192, 128, 128)
HEAD_ATTENTION = {"num_heads": 2, "head_width": 64}


def flax_state(
    module: nn.Module, params: Mapping[str, Any], batch_stats: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return Flax variables, or gradients, as a state dict for a module of the same names.

    Args:
        module: one of this file's.
        params: tree of parameters.
        batch_stats: tree of running averages, empty without batch norm.
    """
    leaves = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    state = {}

    def collect(tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                collect(value, f"{prefix}{name}.")
                continue
            array = np.asarray(value)
            if name == "kernel":
                # [in, out] -> [out, in] and [h, w, in, out] -> [out, in, h, w]
                array = array.transpose({2: (1, 0), 4: (3, 2, 0, 1)}[array.ndim])
            target = prefix + leaves.get(name, name)
            # A dense layer over channels is a 1x1 convolution here.
            state[target] = torch.tensor(array).reshape(shapes[target])

    collect(params, "")
    collect(batch_stats, "")
    return state


def load_flax(module: nn.Module, params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> None:
    """Copy Flax variables into a module of the same names, see :func:`flax_state`.

    Raises:
        KeyError: if the module has no tensor of a name.
        RuntimeError: if tensors are missing or misshapen.
    """
    state = flax_state(module, params, batch_stats)
    # A count of calls, which Flax does not keep and nothing here reads.
    counters = {name: v for name, v in module.state_dict().items() if "num_batches" in name}
    module.load_state_dict({**state, **counters})


def attend(qkv: Tensor, num_heads: int, head_width: int) -> Tensor:
    """Mix values by the library's fused attention, ``[B, N, 3 * heads * d]`` to a third of it."""
    batch, length, _ = qkv.shape
    query, key, value = qkv.view(batch, length, 3, num_heads, head_width).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).reshape(batch, length, num_heads * head_width)


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer, of the backbone and of the head."""

    def __init__(
        self,
        width: int,
        hidden: int,
        num_heads: int,
        head_width: int,
        *,
        qkv_bias: bool,
        eps: float,
    ):
        super().__init__()
        inner = num_heads * head_width
        self.num_heads, self.head_width = num_heads, head_width
        self.attention_norm = nn.LayerNorm(width, eps)
        self.query_key_value = nn.Linear(width, 3 * inner, bias=qkv_bias)
        self.attention_output = nn.Linear(inner, width)
        self.mlp_norm = nn.LayerNorm(width, eps)
        self.mlp_hidden = nn.Linear(width, hidden)
        self.mlp_output = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all tokens ``[B, N, C]``, then apply the two-layer perceptron."""
        qkv = self.query_key_value(self.attention_norm(x))
        x = x + self.attention_output(attend(qkv, self.num_heads, self.head_width))
        return x + self.mlp_output(F.gelu(self.mlp_hidden(self.mlp_norm(x))))

    def keys(self, x: Tensor) -> Tensor:
        """Compute the keys alone ``[B, N, heads * d]``."""
        inner = self.num_heads * self.head_width
        weight = self.query_key_value.weight[inner : 2 * inner]
        bias = self.query_key_value.bias[inner : 2 * inner]
        return F.linear(self.attention_norm(x), weight, bias)


class VisionTransformer(nn.Module):
    """Keys of the last block of DINO's vision transformer."""

    def __init__(self, architecture: Architecture, trained_grid: int | None = None):
        super().__init__()
        width, patch = architecture.width, architecture.patch_size
        grid = trained_grid or PRETRAINING_SIZE // patch
        self.depth, self.patch_size = architecture.depth, patch
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch)
        for index in range(self.depth):
            heads = architecture.num_heads
            layer = TransformerLayer(
                width, MLP_RATIO * width, heads, width // heads, qkv_bias=True, eps=LAYER_NORM_EPS
            )
            self.add_module(f"block_{index}", layer)
        # Of the weights, not of the keys.
        self.norm = nn.LayerNorm(width, LAYER_NORM_EPS)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Compute the keys ``[B, N, D]`` of a normalised image, and nothing beyond them."""
        batch, _, height, width = image.shape
        patches = self.patch_embedding(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(batch, -1, -1), patches], dim=1)
        grid = height // self.patch_size, width // self.patch_size
        x = x + self._position_embedding_at(grid)
        for index in range(self.depth - 1):
            x = self.get_submodule(f"block_{index}")(x)
        last: Any = self.get_submodule(f"block_{self.depth - 1}")
        keys: Tensor = last.keys(x)[:, 1:].float()
        return keys

    def _position_embedding_at(self, grid: tuple[int, int]) -> Tensor:
        table = self.position_embedding
        side = math.isqrt(table.shape[1] - 1)
        if grid == (side, side):
            return table
        patches = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        # s = (n + 0.1) / N
        scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        patches = F.interpolate(patches, scale_factor=scale, mode="bicubic")
        return torch.cat([table[:, :1], patches.flatten(2).transpose(1, 2)], dim=1)


class ConvolutionBlock(nn.Module):
    """3x3 convolution, batch norm, leaky ReLU of slope 0.01."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1)

    def forward(self, x: Tensor, track: bool) -> Tensor:
        """Apply the block; in training, running averages follow only where ``track`` says so."""
        x = self.conv(x)
        if self.training and not track:
            x = F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, True)
        else:
            x = self.norm(x)
        return F.leaky_relu(x, 0.01)


class UpsamplingStage(nn.Module):
    """Twice the size, the RGB image beside the features, and one or two convolution blocks."""

    def __init__(self, inputs: int, outputs: int, blocks: int):
        super().__init__()
        self.blocks = blocks
        for index in range(blocks):
            block = ConvolutionBlock(inputs + 3 if index == 0 else outputs, outputs)
            self.add_module(f"block_{index}", block)

    def forward(self, x: Tensor, image: Tensor, track: bool) -> Tensor:
        """Go from ``[B, C, h, w]`` to ``[B, outputs, 2h, 2w]``."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = torch.cat([x, F.interpolate(image, x.shape[2:], mode="bilinear")], dim=1)
        for index in range(self.blocks):
            x = self.get_submodule(f"block_{index}")(x, track)
        return x


class SegmentationHead(nn.Module):
    """Coarse and fine mask from backbone keys, at patch 8."""

    def __init__(self, key_width: int, memory_format: torch.memory_format = torch.channels_last):
        super().__init__()
        self.memory_format = memory_format
        self.input_projection = nn.Linear(key_width, WIDTH)
        for index in range(2):
            layer = TransformerLayer(WIDTH, WIDTH, **HEAD_ATTENTION, qkv_bias=False, eps=1e-5)
            self.add_module(f"transformer_{index}", layer)
        self.coarse_projection = nn.Linear(WIDTH, 1)
        inputs = WIDTH
        for stage, outputs in enumerate(STAGE_CHANNELS):
            blocks = 2 if stage == len(STAGE_CHANNELS) - 1 else 1
            self.add_module(f"stage_{stage}", UpsamplingStage(inputs, outputs, blocks))
            inputs = outputs
        self.fine_projection = nn.Conv2d(inputs + 3, 1, 1)
        self.to(memory_format=memory_format)  # type: ignore[call-overload]

    def tokens(self, keys: Tensor) -> Tensor:
        """Return what both branches share ``[B, N, 64]``."""
        x = self.input_projection(keys)
        for index in range(2):
            x = self.get_submodule(f"transformer_{index}")(x)
        return x

    def coarse(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the coarse mask ``[B, 1, h, w]``."""
        return torch.sigmoid(self.coarse_projection(tokens)).transpose(1, 2).unflatten(2, grid)

    def fine(
        self, tokens: Tensor, image: Tensor, grid: tuple[int, int], *, track: bool = True
    ) -> Tensor:
        """Return the fine mask ``[B, 1, H, W]``, from a normalised image."""
        # Tokens are channels-last already, and PyTorch's convolutions are faster so on a CPU.
        x = tokens.transpose(1, 2).unflatten(2, grid).contiguous(memory_format=self.memory_format)
        image = image.contiguous(memory_format=self.memory_format)
        for stage in range(len(STAGE_CHANNELS)):
            x = self.get_submodule(f"stage_{stage}")(x, image, track)
        return torch.sigmoid(self.fine_projection(torch.cat([x, image], dim=1)))
