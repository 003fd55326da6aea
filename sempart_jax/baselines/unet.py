"""A small U-Net (arXiv 1505.04597) from RGB in [0, 1] to a mask in [0, 1], without a backbone."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from sempart_jax.kernels.initializers import fan_in_dense
from sempart_jax.kernels.normalization import normalize
from sempart_jax.kernels.resize import double_bilinear
from sempart_jax.two_tricks.head import ConvolutionBlock
from sempart_jax.two_tricks.interfaces import MaskNetwork, Prediction, Variables

STRIDE = 16
"""Pixels of the image along a side of a cell of the deepest level."""

_WIDTHS = (1, 2, 4, 8)
_DEEPEST_BLOCKS = 3


def pack(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C4"]:
    """Lay each square of 2 x 2 pixels into the channels of one, by rows and then columns."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, -1)


class UNet(nn.Module):
    """Encoder of four levels, at a half to a sixteenth of the image's size, and decoder.

    The blocks are those of Sempart's head: 3x3 convolution, batch norm, leaky ReLU. The first one
    sees squares of 2 x 2 pixels and the logits are enlarged bilinearly, so that nothing is computed
    at full size; the deepest level also sees its own mean over the image. 2.1 million parameters
    with 32 channels.

    Attributes:
        channels: of the first level; each deeper one has twice as many.
        axis_name: mapped device axis over which batch norm averages its statistics in training,
            or ``None`` outside of ``pmap``.
    """

    channels: int = 32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> Float[Array, "B H W 1"]:
        """Predict the logits of the mask of an ImageNet-normalised image.

        In training, batch norm is by the batch's statistics, and the running averages go into
        ``batch_stats``. A ValueError tells of a side that is no multiple of :data:`STRIDE`.
        """
        if image.shape[1] % STRIDE or image.shape[2] % STRIDE:
            raise ValueError(
                f"image is {image.shape[1]} x {image.shape[2]} pixels: resize, crop or pad both "
                f"sides to a multiple of {STRIDE}"
            )
        widths = [self.channels * factor for factor in _WIDTHS]
        x, skips = pack(image), []
        for level, width in enumerate(widths):
            if level:
                skips.append(x)
                x = _halve(x)
            for index in range(_DEEPEST_BLOCKS if level == len(widths) - 1 else 2):
                x = self._block(width, f"down_{level}_{index}")(x, train)
        mean = jnp.mean(x, axis=(1, 2), keepdims=True)
        x = x + fan_in_dense(widths[-1], widths[-1], "context")(mean)
        for level in reversed(range(len(skips))):
            x = jnp.concatenate([double_bilinear(x), skips[level]], axis=-1)
            x = fan_in_dense(widths[level], x.shape[-1], f"merge_{level}")(x)
            x = self._block(widths[level], f"up_{level}")(x, train)
        return double_bilinear(fan_in_dense(1, widths[0], "logits")(x))

    def _block(self, features: int, name: str) -> ConvolutionBlock:
        return ConvolutionBlock(features, self.axis_name, jnp.float32, name=name)


def _halve(x: Array) -> Array:
    """Average each square of 2 x 2 pixels."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


@dataclasses.dataclass(frozen=True)
class UNetNetwork(MaskNetwork):
    """A :class:`UNet`, all of whose parameters are trained.

    Attributes:
        unet: the module.
    """

    unet: UNet

    @property
    def patch_size(self) -> int:
        """Side in pixels of a cell of the deepest level."""
        return STRIDE

    def init(self, key: Array, frozen_params: Variables, image_size: int) -> Variables:
        """Draw the first parameters, see :class:`MaskNetwork`."""
        image = jnp.zeros((1, image_size, image_size, 3))
        return dict(jax.jit(self.unet.init)(key, image))

    def predict(
        self,
        frozen_params: Variables,
        variables: Variables,
        image: Float[Array, "B H W 3"],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict the mask, and as the coarse one its mean over cells; see :class:`MaskNetwork`."""
        logits, updates = self.unet.apply(
            variables, normalize(image), train=train, mutable=["batch_stats"]
        )
        fine = nn.sigmoid(logits)
        batch, height, width, _ = fine.shape
        cells = fine.reshape(batch, height // STRIDE, STRIDE, width // STRIDE, STRIDE, 1)
        return Prediction(cells.mean(axis=(2, 4)), fine, dict(updates["batch_stats"]))
