"""What the U-Net learns by: soft pseudo-masks, and Sempart's second trick."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from sempart_jax.baselines.unet import UNetNetwork
from sempart_jax.two_tricks.interfaces import Evaluation, Examples, Variables
from sempart_jax.two_tricks.losses import Scalar, cross_entropy
from sempart_jax.two_tricks.multiscale import MultiscaleObjective


def soft_iou_loss(
    mask: Float[Array, "B H W"], target: Float[Array, "B H W"], eps: float = 1e-6
) -> Scalar:
    """One minus the mean intersection over union of masks and soft targets; 0 where both are equal.

    The Jaccard metric loss (arXiv 2302.05666, Eq. 5), whose intersection is not the product: that
    would be largest at a mask of 0 and 1 whatever the target. ``eps`` is added to both, so that two
    empty masks are equal.
    """
    # 1 - sum_i min(m_i, t_i) / sum_i max(m_i, t_i)
    intersection = jnp.sum(jnp.minimum(mask, target), axis=(1, 2))
    union = jnp.sum(jnp.maximum(mask, target), axis=(1, 2))
    return 1 - jnp.mean((intersection + eps) / (union + eps))


@dataclasses.dataclass(frozen=True)
class UNetObjective(MultiscaleObjective[UNetNetwork]):
    """Cross-entropy and IoU against soft pseudo-masks, and multi-scale consistency.

    Attributes:
        cross_entropy_weight: weight of :func:`cross_entropy`.
        iou_weight: weight of :func:`soft_iou_loss`.
        equivariance_weight: weight of the consistency.
        eps: see the two losses; also the margin by which the teacher's target is clipped.
    """

    cross_entropy_weight: float = 1.0
    iou_weight: float = 1.0
    equivariance_weight: float = 0.01
    eps: float = 1e-6

    learns_from_masks: ClassVar[bool] = True

    def evaluate(
        self,
        network: UNetNetwork,
        frozen_params: Variables,
        variables: Variables,
        examples: Examples,
        *,
        keys: Array,
        step: Array,
    ) -> Evaluation:
        """Compute all terms, see :class:`Objective`.

        Raises:
            ValueError: if the examples have no pseudo-masks.
        """
        if examples.mask is None:
            raise ValueError("the U-Net learns from pseudo-masks, and the examples have none")
        student = network.predict(frozen_params, variables, examples.image, train=True)
        mask = student.fine[..., 0]
        terms = {
            "cross_entropy": cross_entropy(mask, examples.mask, self.eps),
            "iou": soft_iou_loss(mask, examples.mask, self.eps),
        }
        total = self.cross_entropy_weight * terms["cross_entropy"] + self.iou_weight * terms["iou"]
        if self.crop_fraction is not None:
            terms["equivariance"], _ = self.teach(
                network, frozen_params, variables, examples.image, student.fine, keys, self.eps
            )
            total = total + self.equivariance_weight * terms["equivariance"]
        return Evaluation(total, terms, student)
