"""Frozen backbone and trained head as one network from RGB in [0, 1] to masks in [0, 1]."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Float

from sempart_jax.kernels.normalization import normalize
from sempart_jax.two_tricks.features import patch_features
from sempart_jax.two_tricks.interfaces import MaskNetwork, Prediction, Variables


@dataclasses.dataclass(frozen=True)
class HeadNetwork(MaskNetwork):
    """A frozen backbone and the head on its keys.

    Attributes:
        backbone: network with ``apply({"params": p}, normalised image)["keys"]``.
        head: the trained part.
    """

    backbone: nn.Module
    head: nn.Module

    @property
    def patch_size(self) -> int:
        """Side of the backbone's patches in pixels."""
        return int(self.head.patch_size)

    def init(self, key: Array, frozen_params: Variables, image_size: int) -> Variables:
        """Draw the head's first parameters, see :class:`MaskNetwork`."""

        # Compiled as one: op by op, each of the many small ones would compile on its own.
        def initialise(frozen_params: Variables, key: Array) -> Variables:
            image = jnp.zeros((1, image_size, image_size, 3))
            keys = self.features(frozen_params, image)["keys"]
            return {"batch_stats": {}, **self.head.init(key, keys, image)}

        return jax.jit(initialise)(frozen_params, key)

    def features(
        self, frozen_params: Variables, image: Float[Array, "B H W 3"], **options: Any
    ) -> dict[str, Array]:
        """Compute what the backbone says of images; no gradient flows into it."""
        return lax.stop_gradient(patch_features(self.backbone, frozen_params, image, **options))

    def logits(
        self,
        variables: Variables,
        keys: Float[Array, "B h w D"],
        image: Float[Array, "B H W 3"],
        *,
        train: bool = False,
    ) -> tuple[dict[str, Array], Variables]:
        """Apply the head."""
        logits, updates = self.head.apply(
            variables, keys, image, train=train, mutable=["batch_stats"]
        )
        return logits, dict(updates.get("batch_stats", {}))

    def predict(
        self,
        frozen_params: Variables,
        variables: Variables,
        image: Float[Array, "B H W 3"],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict both masks, see :class:`MaskNetwork`."""
        image = normalize(image)
        keys = self.features(frozen_params, image)["keys"]
        logits, batch_stats = self.logits(variables, keys, image, train=train)
        return Prediction(
            coarse=nn.sigmoid(logits["coarse"]),
            fine=nn.sigmoid(logits["fine"]),
            batch_stats=batch_stats,
            keys=keys,
        )
