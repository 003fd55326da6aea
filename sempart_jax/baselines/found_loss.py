"""What FOUND's decoder minimises (arXiv 2212.07834, Sec. 3.2 and 3.3)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int


def decoder_loss(
    logits: Float[jax.Array, "B h w"],
    refined_prediction: Bool[jax.Array, "B h w"],
    refined_complement: Bool[jax.Array, "B h w"],
    step: Int[jax.Array, ""],
    *,
    background_steps: int = 100,
    refinement_weight: float = 1.5,
    self_weight: float = 4.0,
) -> tuple[Float[jax.Array, ""], dict[str, Float[jax.Array, ""]]]:
    """Compare the decoder's masks with their refinement, and with the background or themselves.

    The refined masks are a target throughout. Beside them the complement of the background is one
    at first, which tells the decoder where objects are; then its own decisions take that place.

    Args:
        logits: the decoder's output on patches ``[B, h, w]``, foreground above 0.
        refined_prediction: ``logits > 0``, refined by
            :func:`sempart_jax.baselines.found_refinement.refine_patch_masks`.
        refined_complement: what :func:`sempart_jax.baselines.found.background_mask` leaves, refined
            likewise; not looked at from ``background_steps`` on.
        step: number of steps taken, int32.
        background_steps: steps in which the background is the target; the decoder's own masks are
            from there on.
        refinement_weight: weight of the refined masks.
        self_weight: weight of the decoder's own masks.

    Returns:
        The weighted sum, and each term before weighting: binary cross-entropies, means over batch
        and patches. ``refinement``; ``background``, 0 from ``background_steps`` on; ``self``, 0
        before.
    """

    def cross_entropy(target: Bool[jax.Array, "B h w"]) -> Float[jax.Array, ""]:
        per_patch = optax.sigmoid_binary_cross_entropy(logits, target.astype(logits.dtype))
        return jnp.mean(per_patch)

    first_phase = step < background_steps
    terms = {
        "refinement": cross_entropy(refined_prediction),
        "background": jnp.where(first_phase, cross_entropy(refined_complement), 0.0),
        "self": jnp.where(first_phase, 0.0, cross_entropy(logits > 0)),
    }
    # L = 1.5 L_refinement + (L_background, then 4 L_self)
    total = refinement_weight * terms["refinement"] + terms["background"]
    return total + self_weight * terms["self"], terms
