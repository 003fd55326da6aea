"""Sempart with the tricks: all loss terms of a batch and their weighted sum (Eq. 10, Sec. 5.1)."""

import dataclasses

import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks import losses
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Evaluation, Examples, Variables
from sempart_jax.two_tricks.multiscale import MultiscaleObjective
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
        step: Int[Array, ""] | int,
        corners: Int[Array, "B 2"] | None = None,
    ) -> Evaluation:
        """Compute all terms, see :class:`Objective`; ``corners`` take the place of random ones.

        Batch norm takes its statistics from each pass over the network by itself, and only the pass
        over the whole images moves the running averages: those serve prediction, which sees whole
        images.
        """
        image = examples.image
        student = network.predict(frozen_params, variables, image, train=True)
        tau, eps = self.tau, self.eps
        terms = {
            "ncut": losses.normalized_cut(student.keys, student.coarse, tau, eps),
            "gtv_fine": losses.graph_total_variation_fine(
                normalize(image), student.fine, self.sigma
            ),
            "gtv_coarse": losses.graph_total_variation_coarse(
                student.keys, student.coarse, tau, eps
            ),
            "consistency": losses.coarse_fine_consistency(student.coarse, student.fine),
        }
        if self.crop_fraction is not None:
            equivariance, teacher = self.teach(
                network, frozen_params, variables, image, student.fine, keys, eps, corners
            )
            terms["ncut_crop"] = losses.normalized_cut(teacher.keys, teacher.coarse, tau, eps)
            terms["equivariance"] = equivariance
        if self.principal is not None:
            terms["principal"] = losses.cross_entropy(
                student.coarse, self.principal(student.keys), eps
            )
        # L = sum over terms of lambda_k L_k  (Eq. 10 plus the two terms of trick 2)
        total = jnp.zeros(())
        for name, value in terms.items():
            weight = getattr(self.weights, name)
            if name == "consistency" and self.consistency_warmup_steps:
                weight = weight * jnp.minimum(1.0, step / self.consistency_warmup_steps)
            total = total + weight * value
        return Evaluation(total, terms, student)
