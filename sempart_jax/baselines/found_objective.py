"""FOUND: a decoder learns what is not background (arXiv 2212.07834, Sec. 3.2 and 3.3)."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from sempart_jax.baselines.found import background_mask
from sempart_jax.baselines.found_callback import refined_in_step
from sempart_jax.baselines.found_loss import decoder_loss
from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks.interfaces import Prediction, Variables
from sempart_jax.two_tricks.objective_base import Evaluation, Examples, Objective
from sempart_jax.two_tricks.segmenter import Segmenter


@dataclasses.dataclass(frozen=True)
class FoundObjective(Objective[Segmenter]):
    """Cross-entropies with refined masks, see ``decoder_loss``.

    Attributes:
        tau: cosine above which a patch is background.
        background_steps: steps that learn from the background before the decoder teaches itself.
        refinement_weight: weight of the decoder's refined masks.
        self_weight: weight of its own masks.
    """

    tau: float = 0.3
    background_steps: int = 100
    refinement_weight: float = 1.5
    self_weight: float = 4.0

    def evaluate(
        self,
        network: Segmenter,
        frozen_params: Variables,
        variables: Variables,
        examples: Examples,
        *,
        keys: Array,
        step: Array,
    ) -> Evaluation:
        """Compute all terms, see :class:`Objective`; masks are refined on the host."""
        image = normalize(examples.image)
        features = network.features(frozen_params, image, class_attention=True)
        logits, batch_stats = network.logits(variables, features["keys"], image, train=True)
        coarse = logits["coarse"][..., 0]

        def refined_complement() -> Array:
            background = background_mask(features["keys"], features["class_attention"], self.tau)
            return refined_in_step(examples.image, ~background)

        total, terms = decoder_loss(
            coarse,
            refined_in_step(examples.image, lax.stop_gradient(coarse) > 0),
            # The refinement is most of a step's time: none for a target that is looked at no more.
            lax.cond(
                step < self.background_steps,
                refined_complement,
                lambda: jnp.zeros(coarse.shape, bool),
            ),
            step,
            background_steps=self.background_steps,
            refinement_weight=self.refinement_weight,
            self_weight=self.self_weight,
        )
        student = Prediction(
            coarse=nn.sigmoid(logits["coarse"]),
            fine=nn.sigmoid(logits["fine"]),
            batch_stats=batch_stats,
            keys=features["keys"],
        )
        return Evaluation(total, terms, student)
