"""SelfMask's second stage: a network learns from pseudo-masks (arXiv 2203.12614)."""

import dataclasses
from typing import ClassVar

from jax import Array

from sempart_jax.baselines.selfmask_losses import selfmask_loss
from sempart_jax.baselines.selfmask_network import SelfMaskNetwork
from sempart_jax.two_tricks.interfaces import Evaluation, Examples, Objective, Variables


@dataclasses.dataclass(frozen=True)
class SelfMaskObjective(Objective[SelfMaskNetwork]):
    """Dice and ranking loss of the queries after every layer of the decoder.

    Attributes:
        ranking_weight: weight of the ranking loss.
        unmatched_weight: see ``selfmask_loss``.
    """

    ranking_weight: float = 1.0
    unmatched_weight: float = 1.0

    learns_from_masks: ClassVar[bool] = True

    def evaluate(
        self,
        network: SelfMaskNetwork,
        frozen_params: Variables,
        variables: Variables,
        examples: Examples,
        *,
        keys: Array,
        step: Array,
    ) -> Evaluation:
        """Compute both terms, see :class:`Objective`.

        Raises:
            ValueError: if the examples have no pseudo-masks.
        """
        if examples.mask is None:
            raise ValueError("SelfMask learns from pseudo-masks, and the examples have none")
        outputs = network.outputs(variables, examples.image)
        target = (examples.mask > 0.5).astype(examples.image.dtype)
        terms = selfmask_loss(
            outputs["masks"], outputs["objectness"], target, self.unmatched_weight
        )
        total = terms["dice"] + self.ranking_weight * terms["ranking"]
        return Evaluation(total, terms, network.select(outputs, *examples.image.shape[1:3]))
