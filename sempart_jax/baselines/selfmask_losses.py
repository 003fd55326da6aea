"""SelfMask's losses: queries towards one pseudo-mask an image (arXiv 2203.12614, Sec. 3.3).

The network is ``sempart_jax.baselines.maskformer``.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from sempart_jax.kernels.resize import resize_bilinear


def ranking_loss(
    objectness: Float[Array, "*batch Q"], losses: Float[Array, "*batch Q"]
) -> Float[Array, "*batch"]:
    """Ask that a better mask has the higher objectness in [0, 1], by a hinge without margin.

    The sum over the pairs of queries in wrong order of how far they are apart. Of equal losses the
    query that comes first counts as the better one. Gradients flow into ``objectness`` alone.
    """
    best_first = jnp.argsort(lax.stop_gradient(losses), axis=-1, stable=True)
    ranked = jnp.take_along_axis(objectness, best_first, axis=-1)
    # sum over i < j of max(0, o_j - o_i), where i has the smaller loss
    excess = jax.nn.relu(ranked[..., None, :] - ranked[..., :, None])
    return jnp.triu(excess, 1).sum((-2, -1))


def dice_loss(
    masks: Float[Array, "B L Q h w"], target: Float[Array, "B H W"]
) -> Float[Array, "B L Q"]:
    """Compare every mask, enlarged to the target's size, with its image's target.

    Smoothed by one pixel as in MaskFormer (arXiv 2107.06278), so that two empty masks agree: in
    [0, 1), 0 where a binary mask is the target.
    """
    # No mask is enlarged: R being the bilinear resampling, which is linear, <R p, t> = <p, R^T t>
    # and sum R p = <p, R^T 1>, and the targets are far fewer than the masks of all layers.
    low, wide = masks.shape[3:]
    height, width = target.shape[1:]

    def transposed_resize(images: Float[Array, "B H W"]) -> Float[Array, "B h w"]:
        (small,) = jax.linear_transpose(
            lambda small: resize_bilinear(small, height, width),
            jax.ShapeDtypeStruct((len(images), low, wide, 1), images.dtype),
        )(images[..., None])
        return small[..., 0]

    def weighted(weights: Float[Array, "_ h w"]) -> Float[Array, "B L Q"]:
        weights = jnp.broadcast_to(weights, (len(masks), low, wide))
        return jnp.einsum("blqhw,bhw->blq", masks, weights, precision=lax.Precision.HIGHEST)

    overlap = weighted(transposed_resize(target))
    area = weighted(transposed_resize(jnp.ones((1, height, width), masks.dtype)))
    # 1 - (2 <p, t> + 1) / (sum p + sum t + 1)
    areas = area + target.sum((-2, -1))[:, None, None]
    return 1.0 - (2.0 * overlap + 1.0) / (areas + 1.0)


def selfmask_loss(
    mask_logits: Float[Array, "B L Q h w"],
    objectness_logits: Float[Array, "B L Q"],
    target: Float[Array, "B H W"],
    unmatched_weight: float | Float[Array, ""] = 1.0,
) -> dict[str, Float[Array, ""]]:
    """Draw the queries of all layers to a pseudo-mask, and rank them by how close they come.

    Args:
        mask_logits: ``[B, L, Q, h, w]``; the masks are compared at the target's size, to which they
            are brought bilinearly.
        objectness_logits: ``[B, L, Q]``.
        target: ``[B, H, W]``, 1 is foreground.
        unmatched_weight: weight of the dice loss of all queries of a layer but the nearest one. 1:
            as in the released code; 0: MaskFormer's loss of sets, which leaves them alone.

    Returns:
        ``dice`` and ``ranking``, each summed over queries (pairs of them) and layers and averaged
        over the B images, float32. An image with an empty target counts as 0.
    """
    batch, _, num_queries = objectness_logits.shape
    masks = jax.nn.sigmoid(mask_logits.astype(jnp.float32))
    objectness = jax.nn.sigmoid(objectness_logits.astype(jnp.float32))
    counts = (target > 0).any((-2, -1)).astype(jnp.float32)

    dice = dice_loss(masks, target.astype(jnp.float32))
    matched = jax.nn.one_hot(jnp.argmin(dice, axis=-1), num_queries, dtype=bool)
    weighted = jnp.where(matched, 1.0, unmatched_weight) * dice
    return {
        "dice": jnp.sum(weighted * counts[:, None, None]) / batch,
        "ranking": jnp.sum(ranking_loss(objectness, dice) * counts[:, None]) / batch,
    }


def select_mask(
    mask_logits: Float[Array, "B Q h w"], objectness_logits: Float[Array, "B Q"]
) -> Float[Array, "B h w"]:
    """Take the mask in [0, 1] of the query with the highest objectness, the first of equals."""
    best = jnp.argmax(objectness_logits, axis=-1)
    chosen = jnp.take_along_axis(mask_logits, best[:, None, None, None], axis=1)[:, 0]
    return jax.nn.sigmoid(chosen)
