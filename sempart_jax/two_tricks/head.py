"""The Sempart segmentation head: a coarse mask on patches, a fine mask on pixels.

Sempart (arXiv 2309.10972), Sec. 3.2, as re-implemented for "Two Tricks" (arXiv 2404.03392,
App. A): 748,165 parameters at patch 8.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from sempart_jax.kernels.attention import attend
from sempart_jax.kernels.convolution import convolve_3x3
from sempart_jax.kernels.initializers import fan_in_dense, fan_in_uniform
from sempart_jax.kernels.resize import double_bilinear, resize_bilinear

_WIDTH = 64
_NUM_HEADS = 2
_HEAD_WIDTH = 64
_NUM_LAYERS = 2


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer over all patches, without position embedding.

    The residual stream, layer norms and attention weights are float32; the products of matrices
    take and give ``dtype``.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
        """Attend over the patches, then apply the two-layer perceptron."""
        batch, patches, width = x.shape
        y = nn.LayerNorm(epsilon=1e-5, name="attention_norm")(x)
        inner = _NUM_HEADS * _HEAD_WIDTH
        y = self._dense(3 * inner, width, "query_key_value", use_bias=False)(y)
        query, key, value = jnp.split(y.reshape(batch, patches, 3 * _NUM_HEADS, _HEAD_WIDTH), 3, 2)
        y = attend(query, key, value).reshape(batch, patches, inner)
        x = x + self._dense(width, inner, "attention_output")(y).astype(jnp.float32)
        y = nn.LayerNorm(epsilon=1e-5, name="mlp_norm")(x)
        y = nn.gelu(self._dense(_WIDTH, width, "mlp_hidden")(y), approximate=False)
        return x + self._dense(width, _WIDTH, "mlp_output")(y).astype(jnp.float32)

    def _dense(self, features: int, fan_in: int, name: str, use_bias: bool = True) -> nn.Dense:
        return fan_in_dense(features, fan_in, name, use_bias, self.dtype)


class Convolution(nn.Module):
    """3x3 convolution with bias; its products take and give ``dtype``, it gives float32."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], image: Float[Array, "B H W 3"] | None = None
    ) -> Float[Array, "B H W F"]:
        """Convolve ``x``, with the image as its last channels if there is one; keep the size."""
        channels = x.shape[-1] + (0 if image is None else image.shape[-1])
        initialiser = fan_in_uniform(9 * channels)
        kernel = self.param("kernel", initialiser, (3, 3, channels, self.features))
        bias = self.param("bias", initialiser, (self.features,))
        bias = bias.reshape(1, 1, 1, -1)
        if image is None:
            return self._convolve(x, kernel) + bias
        # By itself, because nobody asks for its gradient, and 128 channels are faster than 131.
        of_x, of_image = jnp.split(kernel, [x.shape[-1]], axis=2)
        return self._convolve(x, of_x) + (self._convolve(image, of_image) + bias)

    def _convolve(self, x: Array, kernel: Array) -> Array:
        return convolve_3x3(x.astype(self.dtype), kernel).astype(jnp.float32)


class ConvolutionBlock(nn.Module):
    """3x3 convolution, batch norm, leaky ReLU of slope 0.01.

    The convolution runs in ``dtype``, in which the result is kept as well; what is between the two
    is float32.
    """

    features: int
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        train: bool,
        image: Float[Array, "B H W 3"] | None = None,
    ) -> Float[Array, "B H W F"]:
        """Apply the block; in training with the statistics of the batch."""
        x = Convolution(self.features, self.dtype, name="conv")(x, image)
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            use_fast_variance=False,
            axis_name=self.axis_name,
            name="norm",
        )(x)
        return nn.leaky_relu(x, 0.01).astype(self.dtype)


class UpsamplingStage(nn.Module):
    """A larger size, the RGB image beside the features, and one or two convolution blocks."""

    features: int
    blocks: int
    axis_name: str | None
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B h w C"],
        image: Float[Array, "B H W 3"],
        train: bool,
        size: tuple[int, int],
    ) -> Float[Array, "B h2 w2 F"]:
        """Go from ``[B, h, w, C]`` to ``[B, *size, features]``."""
        x = x.astype(jnp.float32)
        is_double = size == (2 * x.shape[1], 2 * x.shape[2])
        x = double_bilinear(x) if is_double else resize_bilinear(x, *size)
        beside: Array | None = resize_bilinear(image, x.shape[1], x.shape[2])
        for index in range(self.blocks):
            block = ConvolutionBlock(
                self.features, self.axis_name, self.dtype, name=f"block_{index}"
            )
            x, beside = block(x, train, beside), None
        return x


class SegmentationHead(nn.Module):
    """Coarse and fine mask logits from backbone keys.

    Attributes:
        patch_size: side of the backbone's patches in pixels, at least 2. The fine branch has
            ``ceil(log2(patch_size))`` stages; each doubles the size, but for the last one, which
            reaches the image's where the patch is no power of two.
        axis_name: mapped device axis over which batch norm averages its statistics in training,
            or ``None`` outside of ``pmap``.
        channels: features of the fine branch, 128 in the paper; its first stage has half as many
            more. The time of a training step on a CPU goes almost with their square.
        dtype: type of the matrix products, convolutions and attention, float32 or bfloat16.
            Parameters, norms and their statistics, resizing, the last layer before each mask and
            the logits are float32.
    """

    patch_size: int = 8
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    channels: int = 128

    @nn.compact
    def __call__(
        self, keys: Float[Array, "B h w D"], image: Float[Array, "B H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "B _ _ 1"]]:
        """Predict the logits of both masks.

        Args:
            keys: backbone keys ``[B, h, w, D]``.
            image: ImageNet-normalised RGB ``[B, h * patch_size, w * patch_size, 3]``.
            train: batch norm by the batch's statistics, with the running averages in the mutable
                collection ``batch_stats``; otherwise by the running averages.

        Returns:
            ``{"coarse": [B, h, w, 1], "fine": [B, H, W, 1]}``, float32 logits of the foreground.

        Raises:
            ValueError: if the patch size is below 2 or the sizes do not belong together.
        """
        stages = (self.patch_size - 1).bit_length()
        if stages < 1:
            raise ValueError(f"patch_size must be at least 2, got {self.patch_size}")
        batch, height, width, _ = keys.shape
        wanted = (height * self.patch_size, width * self.patch_size)
        if image.shape[1:3] != wanted:
            raise ValueError(
                f"keys of {height}x{width} patches of {self.patch_size} belong to an image of "
                f"{wanted[0]}x{wanted[1]} pixels, got {image.shape[1]}x{image.shape[2]}"
            )
        project = fan_in_dense(_WIDTH, keys.shape[-1], "input_projection", dtype=self.dtype)
        x = project(keys).astype(jnp.float32).reshape(batch, -1, _WIDTH)
        for layer in range(_NUM_LAYERS):
            x = TransformerLayer(self.dtype, name=f"transformer_{layer}")(x)
        x = x.reshape(batch, height, width, _WIDTH)
        coarse = fan_in_dense(1, _WIDTH, "coarse_projection")(x)
        for stage in range(stages):
            features = self.channels if stage else self.channels * 3 // 2
            is_last = stage == stages - 1
            size = wanted if is_last else (2 * x.shape[1], 2 * x.shape[2])
            x = UpsamplingStage(
                features, 1 + is_last, self.axis_name, self.dtype, name=f"stage_{stage}"
            )(x, image, train, size)
        x = jnp.concatenate([x.astype(jnp.float32), image], axis=-1)
        fine = fan_in_dense(1, x.shape[-1], "fine_projection")(x)
        return {"coarse": coarse, "fine": fine}
