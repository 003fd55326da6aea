"""Sempart with the tricks: all loss terms of a batch and their weighted sum (Eq. 10, Sec. 5.1)."""

import dataclasses

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks import losses
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Evaluation, Examples, Variables
from sempart_jax.two_tricks.multiscale import MultiscaleObjective, random_corners
from sempart_jax.two_tricks.principal import PrincipalForeground


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weight of each term by its name; the defaults are the paper's (Sec. 5.1)."""

    ncut: float = 1.0
    gtv_fine: float = 1.0
    gtv_coarse: float = 1.0
    consistency: float = 1.0
    ncut_crop: float = 0.01
    equivariance: float = 0.01
    principal: float = 0.0


@dataclasses.dataclass(frozen=True)
class SempartObjective(MultiscaleObjective[HeadNetwork]):
    """Constants of the objective.

    Attributes:
        tau: cosine above which two patches are joined.
        eps: weight of patches that are not joined, and the margin by which masks are clipped.
        sigma: squared colour distance of the fine total variation.
        weights: weight of each term.
        consistency_warmup_steps: steps in which the weight of the consistency rises linearly from
            0 to its own; the paper has none. In the first steps the fine mask is flat, and pulls
            the coarse mask back to where the N-cut has no gradient: see ``docs/training.md``.
        principal: what the data set's principal component says of patches, towards which the
            coarse mask is drawn; the paper has none. ``None`` leaves the term out.
    """

    tau: float = 0.4
    eps: float = 1e-6
    sigma: float = 1.0
    weights: LossWeights = LossWeights()
    consistency_warmup_steps: int = 0
    principal: PrincipalForeground | None = None

    def evaluate(
        self,
        network: HeadNetwork,
        frozen_params: Variables,
        variables: Variables,
        examples: Examples,
        *,
        keys: Array,
        step: Array,
    ) -> Evaluation:
        """Draw the regions of trick 2 and compute all terms, see :func:`evaluate_objective`."""
        corners = None
        if self.crop_fraction is not None:
            height, width = examples.image.shape[1:3]
            corners = random_corners(keys, height, width, *self.crop_size(height, width))
        return evaluate_objective(
            self, network, frozen_params, variables, examples.image, corners, step
        )


def evaluate_objective(
    objective: SempartObjective,
    network: HeadNetwork,
    backbone_params: Variables,
    head_variables: Variables,
    image: Float[Array, "B H W 3"],
    corners: Int[Array, "B 2"] | None = None,
    step: Int[Array, ""] | int = 0,
) -> Evaluation:
    """Compute all loss terms of a batch in training mode.

    Batch norm takes its statistics from each pass over the network by itself, and only the pass
    over the whole images moves the running averages: those serve prediction, which sees whole
    images.

    Args:
        objective: constants and weights.
        network: the network; student and teacher are the same.
        backbone_params: frozen parameters.
        head_variables: ``{"params", "batch_stats"}`` of the head.
        image: RGB ``[B, H, W, 3]`` in [0, 1].
        corners: top-left pixels ``[B, 2]`` of the regions that the teacher zooms into; needed
            where the objective has a ``crop_fraction``.
        step: number of steps taken; it matters in the warm-up of the consistency alone.

    Returns:
        Total, terms and the student's prediction.

    Raises:
        ValueError: if trick 2 is on and there are no corners.
    """
    student = network.predict(backbone_params, head_variables, image, train=True)
    tau, eps = objective.tau, objective.eps
    terms = {
        "ncut": losses.normalized_cut(student.keys, student.coarse, tau, eps),
        "gtv_fine": losses.graph_total_variation_fine(
            normalize(image), student.fine, objective.sigma
        ),
        "gtv_coarse": losses.graph_total_variation_coarse(student.keys, student.coarse, tau, eps),
        "consistency": losses.coarse_fine_consistency(student.coarse, student.fine),
    }
    if objective.crop_fraction is not None:
        if corners is None:
            raise ValueError("an objective with a crop_fraction needs the corners of the regions")
        equivariance, teacher = objective.teach(
            network, backbone_params, head_variables, image, student.fine, corners, eps
        )
        terms["ncut_crop"] = losses.normalized_cut(teacher.keys, teacher.coarse, tau, eps)
        terms["equivariance"] = equivariance
    if objective.principal is not None:
        terms["principal"] = losses.cross_entropy(
            student.coarse, objective.principal(student.keys), eps
        )
    # L = sum over terms of lambda_k L_k  (Eq. 10 plus the two terms of trick 2)
    total = jnp.zeros(())
    for name, value in terms.items():
        weight = getattr(objective.weights, name)
        if name == "consistency" and objective.consistency_warmup_steps:
            weight = weight * jnp.minimum(1.0, step / objective.consistency_warmup_steps)
        total = total + weight * value
    return Evaluation(total, terms, student)
