"""SelfMask's losses: queries towards pseudo-masks (arXiv 2203.12614, Sec. 3.3).

The network is ``sempart_jax.baselines.maskformer``. All functions work under ``jax.jit``,
``jax.vmap`` and on a device without the host, the matching included.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sempart_jax.kernels.resize import resize_bilinear


def match_queries(cost: Float[Array, "Q M"]) -> Int[Array, " M"]:
    """Give each target a query of its own at the least total cost (Hungarian algorithm).

    Takes M passes of at most M steps one after the other, each over Q queries: meant for tens of
    queries and fewer targets. In float32, the total is minimal up to rounding, and of several
    minimal matchings any one may come. A cost that is not finite is avoided or ignored, and never
    hangs the device. No gradient flows through the choice.

    Args:
        cost: finite ``[Q, M]``, M <= Q.

    Returns:
        The query of each target ``[M]``, no two alike.

    Raises:
        ValueError: there are more targets than queries.
    """
    num_queries, num_targets = cost.shape
    if num_targets > num_queries:
        raise ValueError(
            f"{num_targets} targets need as many queries, got {num_queries}: raise num_queries or "
            "pass fewer targets"
        )
    queries, targets = optax.assignment.hungarian_algorithm(lax.stop_gradient(cost))
    return jnp.zeros(num_targets, queries.dtype).at[targets].set(queries)


def ranking_loss(
    objectness: Float[Array, "*batch Q"], losses: Float[Array, "*batch Q"]
) -> Float[Array, "*batch"]:
    """Ask that a better mask has the higher objectness, by a hinge without margin.

    Of equal losses the query that comes first counts as the better one. Gradients flow into
    ``objectness`` alone.

    Args:
        objectness: ``[..., Q]`` in [0, 1].
        losses: ``[..., Q]``, lower is better.

    Returns:
        ``[...]``: sum over the pairs of queries in wrong order of how far they are apart.
    """
    best_first = jnp.argsort(lax.stop_gradient(losses), axis=-1, stable=True)
    ranked = jnp.take_along_axis(objectness, best_first, axis=-1)
    # sum over i < j of max(0, o_j - o_i), where i has the smaller loss
    excess = jax.nn.relu(ranked[..., None, :] - ranked[..., :, None])
    return jnp.triu(excess, 1).sum((-2, -1))


def assign_targets(
    dice: Float[Array, "Q M"], usable: Bool[Array, " M"]
) -> tuple[Int[Array, " Q"], Bool[Array, " Q"]]:
    """Choose what each query of an image is drawn to.

    Args:
        dice: dice loss of each query with each target ``[Q, M]``, M <= Q.
        usable: which targets count ``[M]``.

    Returns:
        The target of each query ``[Q]``: its match of :func:`match_queries`, or the nearest one;
        and whether it is a match ``[Q]``. Without usable targets they mean nothing.
    """
    # A constant column takes up some query and leaves the order of all other matchings as it is.
    query_of_target = match_queries(jnp.where(usable[None], dice, 0.0))
    queries = jnp.arange(dice.shape[0], dtype=query_of_target.dtype)
    pairs = (queries[:, None] == query_of_target[None]) & usable[None]
    matched = pairs.any(1)
    nearest = jnp.argmin(jnp.where(usable[None], dice, jnp.inf), axis=1)
    return jnp.where(matched, jnp.argmax(pairs, axis=1), nearest), matched


def pairwise_dice(
    masks: Float[Array, "B L Q h w"], targets: Float[Array, "B M H W"]
) -> Float[Array, "B L Q M"]:
    """Compare every mask, enlarged to the targets' size, with every target by the dice loss.

    Smoothed by one pixel as in MaskFormer (arXiv 2107.06278), so that two empty masks agree.

    Args:
        masks: of each layer and query ``[B, L, Q, h, w]`` in [0, 1].
        targets: ``[B, M, H, W]`` in [0, 1].

    Returns:
        ``[B, L, Q, M]`` in [0, 1): 0 where a binary mask is the target.
    """
    # No mask is enlarged: R being the bilinear resampling, which is linear, <R p, t> = <p, R^T t>
    # and sum R p = <p, R^T 1>, and the targets are far fewer than the masks of all layers.
    batch, _, _, low, wide = masks.shape
    count, height, width = targets.shape[1:]

    def transposed_resize(images: Array) -> Array:
        (small,) = jax.linear_transpose(
            lambda small: resize_bilinear(small, height, width),
            jax.ShapeDtypeStruct((len(images), low, wide, 1), images.dtype),
        )(images)
        return small

    weights = transposed_resize(targets.reshape(batch * count, height, width, 1))
    overlap = jnp.einsum(
        "blqhw,bmhw->blqm",
        masks,
        weights.reshape(batch, count, low, wide),
        precision=lax.Precision.HIGHEST,
    )
    pixels = transposed_resize(jnp.ones((1, height, width, 1), masks.dtype))[0, ..., 0]
    mask_area = jnp.einsum("blqhw,hw->blq", masks, pixels, precision=lax.Precision.HIGHEST)
    areas = mask_area[..., None] + targets.sum((-2, -1))[:, None, None]
    # 1 - (2 <p, t> + 1) / (sum p + sum t + 1)
    return 1.0 - (2.0 * overlap + 1.0) / (areas + 1.0)


def selfmask_loss(
    mask_logits: Float[Array, "B L Q h w"],
    objectness_logits: Float[Array, "B L Q"],
    targets: Float[Array, "B M H W"] | Bool[Array, "B M H W"],
    valid: Bool[Array, "B M"],
    unmatched_weight: float | Float[Array, ""] = 1.0,
) -> dict[str, Float[Array, ""]]:
    """Draw the queries of all layers to pseudo-masks, and rank them by how close they come.

    In each image and layer a query's target is the one matched to it by the dice loss, and for
    queries without a match the nearest one. Targets that are not valid or empty are left out.

    Args:
        mask_logits: ``[B, L, Q, h, w]``; the masks are compared at the targets' size, to which they
            are brought bilinearly.
        objectness_logits: ``[B, L, Q]``.
        targets: ``[B, M, H, W]``, 1 is foreground, 1 <= M <= Q.
        valid: ``[B, M]``, which targets are there at all.
        unmatched_weight: weight of the dice loss of queries without a match. 1: as in the released
            code, where all queries are drawn to the one target of an image; 0: MaskFormer's loss of
            sets, which leaves them alone.

    Returns:
        ``dice`` and ``ranking``, each summed over queries (pairs of them) and layers and averaged
        over the B images, float32. An image without a target counts as 0.

    Raises:
        ValueError: there are no targets, or more than queries.
    """
    batch, _, num_queries = objectness_logits.shape
    if not 1 <= targets.shape[1] <= num_queries:
        raise ValueError(
            f"targets must hold 1 to {num_queries} masks an image, one for each query at most, "
            f"got {targets.shape[1]}"
        )
    targets = targets.astype(jnp.float32)
    masks = jax.nn.sigmoid(mask_logits.astype(jnp.float32))
    objectness = jax.nn.sigmoid(objectness_logits.astype(jnp.float32))
    usable = valid & (targets > 0).any((-2, -1))
    counts = usable.any(-1).astype(jnp.float32)

    dice = pairwise_dice(masks, targets)
    of_layers = jax.vmap(assign_targets, (0, None))
    target, matched = jax.vmap(of_layers)(lax.stop_gradient(dice), usable)
    dice = jnp.take_along_axis(dice, target[..., None], axis=-1)[..., 0]

    weighted = jnp.where(matched, 1.0, unmatched_weight) * dice
    return {
        "dice": jnp.sum(weighted * counts[:, None, None]) / batch,
        "ranking": jnp.sum(ranking_loss(objectness, dice) * counts[:, None]) / batch,
    }


def select_mask(
    mask_logits: Float[Array, "B Q h w"], objectness_logits: Float[Array, "B Q"]
) -> Float[Array, "B h w"]:
    """Take the mask of the query with the highest objectness, the first of equals.

    Args:
        mask_logits: of one decoder layer, the last ``[B, Q, h, w]``.
        objectness_logits: ``[B, Q]``.

    Returns:
        Soft masks ``[B, h, w]`` in [0, 1].
    """
    best = jnp.argmax(objectness_logits, axis=-1)
    chosen = jnp.take_along_axis(mask_logits, best[:, None, None, None], axis=1)[:, 0]
    return jax.nn.sigmoid(chosen)
