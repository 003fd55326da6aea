"""Vision transformers of the DINO family: DINO, iBOT, DINOv2 and DINOv3, MAE, MoCo v3.

One module of small parts: a learned or a rotary position, register tokens, a feed-forward that is
gated or not, scaled residual branches. The segmenter reads the features of the last block.
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

MLP_RATIO = 4
PRETRAINING_SIZE = 224
"""Side in pixels of the images on which DINO and iBOT were trained."""

LEARNED, LEARNED_ANTIALIASED, ROTARY = POSITIONS = ("learned", "learned_antialiased", "rotary")
"""A learned embedding, resampled as DINO's and DINOv2's are; one resampled with antialiasing, as
DINOv2's with registers; and rotary embedding of queries and keys, as DINOv3's."""

ROTARY_BASE = 100.0

# not cut off at two deviations, which leaves 0.0176: the released code cuts off at a hundred
_initial = nn.initializers.normal(0.02)


def interpolate_position_embedding(
    table: Float[Array, "1 trained_tokens width"],
    grid: tuple[int, int],
    antialias: bool = False,
) -> Float[Array, "1 tokens width"]:
    """Resample a trained position embedding to another grid of patches.

    Bicubic with clamped edges. DINO and DINOv2: a = -0.75, no antialiasing, at the source
    coordinate (dst + 0.5) / s - 0.5 with s = (n + 0.1) / N per axis; 0.1 is added to the wanted
    side n so that rounding cannot lose a row, and the backbones were released with that offset.
    DINOv2 with registers: a = -0.5, antialiasing, s = n / N.

    Args:
        table: embedding of the class token, then of an N x N grid in row-major order.
        grid: wanted rows and columns.
        antialias: as DINOv2 with registers.

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
    method = jax.image.ResizeMethod.CUBIC if antialias else jax.image.ResizeMethod.CUBIC_PYTORCH
    # s = (n + 0.1) / N
    offset = 0.0 if antialias else 0.1
    patches = jax.image.scale_and_translate(
        table[0, 1:].reshape(trained, trained, -1),
        shape=(rows, columns, table.shape[2]),
        spatial_dims=(0, 1),
        scale=jnp.asarray([(rows + offset) / trained, (columns + offset) / trained], table.dtype),
        translation=jnp.zeros(2, table.dtype),
        method=method,
        antialias=antialias,
    )
    return jnp.concatenate([table[:, :1], patches.reshape(1, rows * columns, -1)], axis=1)


def rotary_angles(grid: tuple[int, int], head_width: int) -> Float[np.ndarray, "patches d"]:
    """Return by which angles the rotary embedding of DINOv3 turns the queries and keys of patches.

    Args:
        grid: rows and columns of patches.
        head_width: channels of an attention head, a multiple of 4.

    Returns:
        Angles in radians ``[rows * columns, head_width]``: of y, then of x, and both again.
    """
    # c = 2 (i + 0.5) / n - 1 in each axis;  angle = 2 pi c / 100^(k / (d / 4))
    axes = [2 * (np.arange(size) + 0.5) / size - 1 for size in grid]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    quarter = head_width // 4
    periods = ROTARY_BASE ** (np.arange(quarter) / quarter)
    angles = (2 * np.pi * coordinates / periods).reshape(len(coordinates), 2 * quarter)
    return np.tile(angles, 2).astype(np.float32)


def rotate(
    x: Float[Array, "batch tokens heads d"], angles: Float[np.ndarray | Array, "patches d"]
) -> Float[Array, "batch tokens heads d"]:
    """Turn the last tokens of queries or keys, the patches, by their angles; in float32."""
    prefix = x.shape[1] - angles.shape[0]
    patches = x[:, prefix:].astype(jnp.float32)
    first, second = jnp.split(patches, 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    cosine, sine = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    patches = patches * cosine + turned * sine
    return jnp.concatenate([x[:, :prefix], patches.astype(x.dtype)], axis=1)


class Block(nn.Module):
    """Pre-norm transformer block that also shows its queries, keys, values and class attention.

    The residual stream, layer norms and attention weights are float32; the products of matrices
    take and give ``dtype``.

    Attributes:
        num_heads: attention heads.
        hidden: features inside the feed-forward.
        gated: feed-forward SwiGLU, silu(gate) * hidden, instead of an MLP with GELU.
        layer_scale: multiply what both residual branches add by learned vectors.
        eps: of the layer norms.
        dtype: type of the matrix products.
    """

    num_heads: int
    hidden: int
    gated: bool = False
    layer_scale: bool = False
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "batch tokens width"],
        branch_scale: Float[Array, "2 batch"] | None = None,
        angles: Float[np.ndarray | Array, "patches d"] | None = None,
    ) -> tuple[Float[Array, "batch tokens width"], dict[str, Float[Array, "batch _ _"]]]:
        """Return the new tokens, and what attention looked at.

        Where given, ``branch_scale`` multiplies what attention and feed-forward add to the tokens,
        and ``angles`` turn the queries and keys of the patches. Queries and keys are returned as
        they are before that.
        """
        batch, length, width = tokens.shape
        head_width = width // self.num_heads

        normed = _layer_norm("attention_norm", self.eps)(tokens)
        qkv = self._dense(3 * width, "query_key_value")(normed)
        query, key, value = jnp.moveaxis(
            qkv.reshape(batch, length, 3, self.num_heads, head_width), 2, 0
        )
        looked_at = {
            name: part.reshape(batch, length, width).astype(jnp.float32)
            for name, part in (("queries", query), ("keys", key), ("values", value))
        }
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        mixed = attend(query, key, value)
        update = self._dense(width, "attention_output")(mixed.reshape(batch, length, width))
        update = self._scaled(update.astype(jnp.float32), "attention_scale")
        tokens = tokens + _multiplied(update, branch_scale, 0)

        normed = _layer_norm("mlp_norm", self.eps)(tokens)
        hidden = self._dense(self.hidden, "mlp_hidden")(normed)
        if self.gated:
            hidden = nn.silu(self._dense(self.hidden, "mlp_gate")(normed)) * hidden
        else:
            hidden = nn.gelu(hidden, approximate=False)
        update = self._dense(width, "mlp_output")(hidden)
        update = self._scaled(update.astype(jnp.float32), "mlp_scale")
        tokens = tokens + _multiplied(update, branch_scale, 1)
        return tokens, {**looked_at, "class_attention": attention_of_first(query, key)}

    def _scaled(
        self, update: Float[Array, "batch tokens width"], name: str
    ) -> Float[Array, "batch tokens width"]:
        if not self.layer_scale:
            return update
        return update * self.param(name, nn.initializers.ones, update.shape[-1:])[None, None]

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=_initial, name=name)


class VisionTransformer(nn.Module):
    """Vision transformer with a class token.

    The matrix products run in ``dtype``; parameters and results are float32. Images of every size
    that the patch divides are taken. Under ``jax.jit`` results that the caller drops are not
    computed, so the keys alone cost neither the last attention nor the last feed-forward.

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
        registers: register (storage) tokens between the class token and the patches.
        position: one of :data:`POSITIONS`.
        hidden: features inside the feed-forward; four times the width by default.
        gated: feed-forward SwiGLU instead of an MLP.
        layer_scale: learned scales of the residual branches.
        eps: of the layer norms.
        features: which result segmentation looks at, see ``two_tricks.features``.
        position_directions: directions of position bias that are projected out of the features.
    """

    patch_size: int
    width: int
    depth: int
    num_heads: int
    dtype: DTypeLike = jnp.float32
    trained_grid: int | None = None
    remat: bool = False
    registers: int = 0
    position: str = LEARNED
    hidden: int | None = None
    gated: bool = False
    layer_scale: bool = False
    eps: float = 1e-6
    features: str = "keys"
    position_directions: int = 0

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches."""
        return 1 + self.registers

    @nn.compact
    def __call__(
        self,
        image: Float[Array | np.ndarray, "batch height width 3"],
        class_attention: bool = False,
        branch_scale: Float[Array, "depth 2 batch"] | None = None,
    ) -> dict[str, Float[Array, "..."]]:
        """Compute features and tokens.

        Args:
            image: RGB normalised with ImageNet's mean and standard deviation.
            class_attention: also return the class token's attention.
            branch_scale: stochastic depth, for training alone: by what each block's two residual
                branches are multiplied, from ``stochastic_depth.draw_branch_scale``.

        Returns:
            ``keys``, ``queries`` and ``values`` [batch, h, w, width]: of the patches in the last
            block, heads concatenated, before any rotation; ``tokens``
            [batch, prefix + h * w, width] after the final norm, class token and registers first;
            where asked ``class_attention`` [batch, heads, 1 + h * w], the class token's row of the
            last attention, which sums to one where there are no registers.

        Raises:
            ValueError: the patch does not divide the image, the heads do not divide the width, the
                position is unknown, or the position embedding has no square grid.
        """
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide width {self.width}")
        if self.position not in POSITIONS:
            raise ValueError(
                f"unknown position {self.position!r}: choose one of {', '.join(POSITIONS)}"
            )
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
        angles = None
        if self.position == ROTARY:
            angles = rotary_angles((rows, columns), self.width // self.num_heads)
        else:
            tokens = tokens + interpolate_position_embedding(
                self._position_embedding(), (rows, columns), self.position == LEARNED_ANTIALIASED
            )
        if self.registers:
            # After the position embedding, which registers have none of.
            registers = self.param("registers", _initial, (1, self.registers, self.width))
            registers = jnp.broadcast_to(registers, (batch, self.registers, self.width))
            tokens = jnp.concatenate([tokens[:, :1], registers, tokens[:, 1:]], axis=1)

        first = self.depth - 1 if self.remat and not self.is_initializing() else 0
        tokens = self._recomputed_blocks(tokens, first, branch_scale, angles)
        for index in range(first, self.depth):
            tokens, looked_at = self._block(name=f"block_{index}")(
                tokens, None if branch_scale is None else branch_scale[index], angles
            )
        outputs = {
            name: looked_at[name][:, self.prefix :].reshape(batch, rows, columns, self.width)
            for name in ("keys", "queries", "values")
        }
        outputs["tokens"] = _layer_norm("norm", self.eps)(tokens)
        if class_attention:
            row = looked_at["class_attention"]
            patches_of_row = row[:, :, self.prefix :]
            outputs["class_attention"] = jnp.concatenate([row[:, :, :1], patches_of_row], axis=2)
        return outputs

    def _block(self, **options: Any) -> Block:
        return Block(
            self.num_heads,
            hidden=self.hidden or MLP_RATIO * self.width,
            gated=self.gated,
            layer_scale=self.layer_scale,
            eps=self.eps,
            dtype=self.dtype,
            **options,
        )

    def _recomputed_blocks(
        self,
        tokens: Float[Array, "batch tokens width"],
        count: int,
        branch_scale: Float[Array, "depth 2 batch"] | None,
        angles: Float[np.ndarray, "patches d"] | None,
    ) -> Float[Array, "batch tokens width"]:
        """Apply the first blocks in a loop that keeps their inputs alone for the backward pass."""
        if not count:
            return tokens
        blocks: list[Any] = [
            self.get_variable("params", f"block_{index}") for index in range(count)
        ]
        block = self._block(parent=None)

        def apply(tokens: Array, inputs: Any) -> tuple[Array, None]:
            params, scale = inputs
            return block.apply({"params": params}, tokens, scale, angles)[0], None

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


def _multiplied(
    update: Float[Array, "batch tokens width"],
    branch_scale: Float[Array, "2 batch"] | None,
    branch: int,
) -> Float[Array, "batch tokens width"]:
    return update if branch_scale is None else update * branch_scale[branch, :, None, None]


def _layer_norm(name: str, eps: float) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name)
