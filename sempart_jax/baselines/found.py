"""FOUND: objects as what is not background (arXiv 2212.07834)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Bool, Float

from sempart_jax.baselines.spectral import cosine_similarity
from sempart_jax.kernels.initializers import fan_in_dense
from sempart_jax.kernels.resize import resize_bilinear


def background_mask(
    keys: Float[jax.Array, "B h w D"] | Float[np.ndarray, "B h w D"],
    class_attention: Float[jax.Array, "B heads N1"] | Float[np.ndarray, "B heads N1"],
    tau: float = 0.3,
) -> Bool[jax.Array, "B h w"]:
    """Find the background: all patches that resemble the one of least attention (Sec. 3.1).

    Heads whose attention is spread over few patches weigh more, in the keys as in the attention.

    Args:
        keys: keys of the backbone's last block ``[B, h, w, D]``, heads concatenated.
        class_attention: attention of the class token in the last block to all tokens, itself first,
            ``[B, heads, 1 + h * w]``.
        tau: threshold of the cosine similarity.

    Returns:
        True on background, bool ``[B, h, w]``.

    Raises:
        ValueError: if the arrays do not belong to one grid, or the heads do not divide the keys.
    """
    batch, height, width, channels = keys.shape
    heads = class_attention.shape[1]
    if class_attention.shape != (batch, heads, 1 + height * width) or channels % heads:
        raise ValueError(
            f"keys {keys.shape} and class_attention {class_attention.shape} must be of one grid, "
            "[B, h, w, D] and [B, heads, 1 + h * w] with heads that divide D"
        )
    return _background(jnp.asarray(keys), jnp.asarray(class_attention), tau)


@jax.jit
def _background(
    keys: Float[jax.Array, "B h w D"],
    class_attention: Float[jax.Array, "B heads N1"],
    tau: float | jax.Array,
) -> Bool[jax.Array, "B h w"]:
    batch, height, width, channels = keys.shape
    attention = class_attention[:, :, 1:]
    heads = attention.shape[1]
    # s_h = share of the patches whose attention is above the mean over heads and patches
    mean = jnp.mean(attention, axis=(1, 2), keepdims=True)
    share = jnp.mean(attention > mean, axis=-1, dtype=attention.dtype)
    # beta_h = log(sum over heads of s / s_h)
    eps = 1e-10
    weight = jnp.log(jnp.sum(share + eps, axis=-1, keepdims=True) / (share + eps))
    by_head = keys.reshape(batch, height * width, heads, channels // heads)
    weighted = (by_head * weight[:, None, :, None]).reshape(batch, height * width, channels)
    similarity = cosine_similarity(weighted)
    # the patch of least attention, summed over the weighted heads
    reference = jnp.argmin(jnp.sum(attention * weight[:, :, None], axis=1), axis=-1)
    with_reference = jnp.take_along_axis(similarity, reference[:, None, None], axis=1)[:, 0]
    return with_reference.reshape(batch, height, width) > tau


def decoder_logits(
    keys: Float[np.ndarray, "B h w D"], kernel: Float[np.ndarray, " D"], bias: float
) -> Float[np.ndarray, "B h w"]:
    """Apply FOUND's decoder, a 1x1 convolution of the keys (Sec. 3.2); foreground is above 0.

    The keys are of the backbone that the decoder was trained on.
    """
    return keys @ kernel + np.float32(bias)


class FoundDecoder(nn.Module):
    """Coarse mask logits from backbone keys, enlarged to the image's size.

    It is called as :class:`sempart_jax.two_tricks.head.SegmentationHead`.

    Attributes:
        patch_size: side of the backbone's patches in pixels.
    """

    patch_size: int = 8

    @nn.compact
    def __call__(
        self, keys: Float[Array, "B h w D"], image: Float[Array, "B H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "B _ _ 1"]]:
        """Predict the logits of both masks of keys; of their image, only the size matters."""
        del train
        coarse = fan_in_dense(1, keys.shape[-1], "projection")(keys)
        return {"coarse": coarse, "fine": resize_bilinear(coarse, *image.shape[1:3])}


def decoder_weights(variables: dict[str, Any]) -> tuple[Float[np.ndarray, " D"], float]:
    """Take kernel and bias for :func:`decoder_logits` out of a decoder's variables."""
    projection = variables["params"]["projection"]
    return np.asarray(projection["kernel"])[:, 0], float(projection["bias"][0])
