"""Vision transformer in the shapes of DINO (arXiv 2104.14294) and iBOT (arXiv 2111.07832).

The segmenter reads the keys of the last block: their cosine similarities tell object from
background better than the block's output does (TokenCut, arXiv 2202.11539, Sec. 3.2).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sempart_jax.kernels.attention import attend, attention_of_first

LAYER_NORM_EPS = 1e-6
MLP_RATIO = 4
PRETRAINING_SIZE = 224
"""Side in pixels of the images on which DINO and iBOT were trained."""

# not cut off at two deviations, which leaves 0.0176: the released code cuts off at a hundred
_initial = nn.initializers.normal(0.02)


def interpolate_position_embedding(
    table: Float[Array, "1 trained_tokens width"], grid: tuple[int, int]
) -> Float[Array, "1 tokens width"]:
    """Resample a trained position embedding to another grid of patches.

    Bicubic with a = -0.75, clamped edges and no antialiasing, at the source coordinate
    (dst + 0.5) / s - 0.5 with s = (n + 0.1) / N per axis: DINO adds 0.1 to the wanted side n so
    that rounding cannot lose a row, and its backbones were released with that offset.

    Args:
        table: embedding of the class token, then of an N x N grid in row-major order.
        grid: wanted rows and columns.

    Returns:
        Embedding of the class token and of ``grid``; ``table`` itself where the trained grid is
        the wanted one.

    Raises:
        ValueError: the trained patches form no square grid.
    """
    trained = math.isqrt(table.shape[1] - 1)
    if trained * trained != table.shape[1] - 1:
        raise ValueError(
            f"position_embedding has {table.shape[1]} rows, expected 1 + N * N: "
            "one for the class token and one for each patch of a square grid"
        )
    if grid == (trained, trained):
        return table
    rows, columns = grid
    patches = jax.image.scale_and_translate(
        table[0, 1:].reshape(trained, trained, -1),
        shape=(rows, columns, table.shape[2]),
        spatial_dims=(0, 1),
        # s = (n + 0.1) / N
        scale=jnp.asarray([(rows + 0.1) / trained, (columns + 0.1) / trained], table.dtype),
        translation=jnp.zeros(2, table.dtype),
        method=jax.image.ResizeMethod.CUBIC_PYTORCH,
        antialias=False,
    )
    return jnp.concatenate([table[:, :1], patches.reshape(1, rows * columns, -1)], axis=1)


class Block(nn.Module):
    """Pre-norm transformer block that also shows its keys and its class token's attention.

    The residual stream, layer norms and attention weights are float32; the products of matrices
    take and give ``dtype``.
    """

    num_heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "batch tokens width"],
        branch_scale: Float[Array, "2 batch"] | None = None,
    ) -> tuple[
        Float[Array, "batch tokens width"],
        Float[Array, "batch tokens width"],
        Float[Array, "batch heads tokens"],
    ]:
        """Return the new tokens, the keys and the class token's row of the attention.

        Where given, ``branch_scale`` multiplies what attention and MLP add to the tokens.
        """
        batch, length, width = tokens.shape
        head_width = width // self.num_heads

        normed = _layer_norm("attention_norm")(tokens)
        qkv = self._dense(3 * width, "query_key_value")(normed)
        query, key, value = jnp.moveaxis(
            qkv.reshape(batch, length, 3, self.num_heads, head_width), 2, 0
        )
        mixed = attend(query, key, value)
        update = self._dense(width, "attention_output")(mixed.reshape(batch, length, width))
        tokens = tokens + _scaled(update.astype(jnp.float32), branch_scale, 0)

        normed = _layer_norm("mlp_norm")(tokens)
        hidden = nn.gelu(self._dense(MLP_RATIO * width, "mlp_hidden")(normed), approximate=False)
        update = self._dense(width, "mlp_output")(hidden)
        tokens = tokens + _scaled(update.astype(jnp.float32), branch_scale, 1)

        keys = key.reshape(batch, length, width).astype(jnp.float32)
        return tokens, keys, attention_of_first(query, key)

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=_initial, name=name)


class VisionTransformer(nn.Module):
    """Vision transformer with a class token and a learned position embedding.

    The matrix products run in ``dtype``; parameters and results are float32. Images of every
    size that the patch divides are taken: the position embedding is resampled to the grid.
    Under ``jax.jit`` results that the caller drops are not computed, so the keys alone cost
    neither the last attention nor the last MLP.

    Attributes:
        patch_size: side of a square patch in pixels.
        width: channels of a token.
        depth: number of blocks.
        num_heads: attention heads of a block.
        dtype: type of the matrix products, float32 or bfloat16.
        trained_grid: side of the grid of position embeddings that ``init`` makes, 224 pixels'
            worth of patches by default. Parameters with another square grid can be applied.
        remat: keep only what enters each block for the backward pass, and compute the block again
            there: a fraction of the memory for the time of another forward pass. Changes no
            result, and nothing where no gradient is taken.
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int
    dtype: DTypeLike = jnp.float32
    trained_grid: int | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        image: Float[Array | np.ndarray, "batch height width 3"],
        class_attention: bool = False,
        branch_scale: Float[Array, "depth 2 batch"] | None = None,
    ) -> dict[str, Float[Array, "..."]]:
        """Compute keys and tokens.

        Args:
            image: RGB normalised with ImageNet's mean and standard deviation.
            class_attention: also return the class token's attention.
            branch_scale: stochastic depth, for training alone: by what each block's two residual
                branches are multiplied, from ``stochastic_depth.draw_branch_scale``.

        Returns:
            ``keys`` [batch, h, w, width]: keys of the last block, heads concatenated, without the
            class token; ``tokens`` [batch, 1 + h * w, width] after the final norm, class token
            first; where asked ``class_attention`` [batch, heads, 1 + h * w], the class token's row
            of the last attention, which sums to one.

        Raises:
            ValueError: the patch does not divide the image, the heads do not divide the width, or
                the position embedding has no square grid.
        """
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide width {self.width}")
        batch, height, width, _ = image.shape
        rows, columns = height // self.patch_size, width // self.patch_size
        if not rows or not columns or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"image is {height} x {width} pixels, which patch size {self.patch_size} does not "
                "divide: resize, crop or pad both sides to a multiple of it"
            )

        patches = nn.Conv(
            self.width,
            kernel_size=(self.patch_size, self.patch_size),
            strides=(self.patch_size, self.patch_size),
            padding="VALID",
            dtype=self.dtype,
            # uniform within +-1 / sqrt(fan in), as the original is initialised
            kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            name="patch_embedding",
        )(jnp.asarray(image))
        patches = patches.reshape(batch, rows * columns, self.width).astype(jnp.float32)

        class_token = self.param("class_token", _initial, (1, 1, self.width))
        tokens = jnp.concatenate(
            [jnp.broadcast_to(class_token, (batch, 1, self.width)), patches], axis=1
        )
        tokens = tokens + interpolate_position_embedding(
            self._position_embedding(), (rows, columns)
        )

        first = self.depth - 1 if self.remat and not self.is_initializing() else 0
        tokens = self._recomputed_blocks(tokens, first, branch_scale)
        for index in range(first, self.depth):
            tokens, keys, class_row = Block(self.num_heads, self.dtype, name=f"block_{index}")(
                tokens, None if branch_scale is None else branch_scale[index]
            )
        outputs = {
            "keys": keys[:, 1:].reshape(batch, rows, columns, self.width),
            "tokens": _layer_norm("norm")(tokens),
        }
        if class_attention:
            outputs["class_attention"] = class_row
        return outputs

    def _recomputed_blocks(
        self,
        tokens: Float[Array, "batch tokens width"],
        count: int,
        branch_scale: Float[Array, "depth 2 batch"] | None,
    ) -> Float[Array, "batch tokens width"]:
        """Apply the first blocks in a loop that keeps their inputs alone for the backward pass."""
        if not count:
            return tokens
        blocks: list[Any] = [
            self.get_variable("params", f"block_{index}") for index in range(count)
        ]
        block = Block(self.num_heads, self.dtype, parent=None)

        def apply(tokens: Array, inputs: Any) -> tuple[Array, None]:
            params, scale = inputs
            return block.apply({"params": params}, tokens, scale)[0], None

        # A loop, and not a checkpoint around each block: XLA's CPU compiler drops the barriers that
        # hold the second computation back until it is needed, and computes all blocks at once.
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
        scale = None if branch_scale is None else branch_scale[:count]
        again = jax.checkpoint(apply, prevent_cse=False)
        tokens, _ = jax.lax.scan(again, tokens, (stacked, scale))
        return tokens

    def _position_embedding(self) -> Float[Array, "1 tokens width"]:
        """Return the embedding at whatever grid it was trained; ``param`` would insist on one."""
        if self.has_variable("params", "position_embedding"):
            return jnp.asarray(self.get_variable("params", "position_embedding"))
        grid = self.trained_grid or max(PRETRAINING_SIZE // self.patch_size, 1)
        return self.param("position_embedding", _initial, (1, 1 + grid * grid, self.width))


def _scaled(
    update: Float[Array, "batch tokens width"],
    branch_scale: Float[Array, "2 batch"] | None,
    branch: int,
) -> Float[Array, "batch tokens width"]:
    return update if branch_scale is None else update * branch_scale[branch, :, None, None]


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        epsilon=LAYER_NORM_EPS, dtype=jnp.float32, use_fast_variance=False, name=name
    )
