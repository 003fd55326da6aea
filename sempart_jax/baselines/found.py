"""FOUND: objects as what is not background (arXiv 2212.07834)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from sempart_jax.baselines.spectral import cosine_similarity


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
    """Apply FOUND's decoder, a 1x1 convolution of the keys (Sec. 3.2).

    Args:
        keys: keys of the backbone's last block ``[B, h, w, D]``, of the backbone that the decoder
            was trained on.
        kernel: its weights ``[D]``.
        bias: its bias.

    Returns:
        Logits ``[B, h, w]``, foreground above 0.
    """
    return keys @ kernel + np.float32(bias)
