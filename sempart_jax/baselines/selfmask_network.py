"""SelfMask's second stage from RGB in [0, 1] to masks in [0, 1] (arXiv 2203.12614)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.selfmask_losses import select_mask
from sempart_jax.kernels.normalization import normalize
from sempart_jax.kernels.resize import resize_bilinear
from sempart_jax.two_tricks.interfaces import MaskNetwork, Prediction, Variables


@dataclasses.dataclass(frozen=True)
class SelfMaskNetwork(MaskNetwork):
    """A MaskFormer whose mask is that of the query it trusts most; nothing in it is frozen.

    Attributes:
        mask_former: encoder, pixel decoder, transformer decoder and heads.
    """

    mask_former: MaskFormer

    @property
    def patch_size(self) -> int:
        """Side of the encoder's patches in pixels."""
        return self.mask_former.encoder.patch_size

    def init(self, key: Array, frozen_params: Variables, image_size: int) -> Variables:
        """Draw the first parameters, see :class:`MaskNetwork`."""
        image = jnp.zeros((1, image_size, image_size, 3))
        return {"batch_stats": {}, **jax.jit(self.mask_former.init)(key, image)}

    def outputs(self, variables: Variables, image: Float[Array, "B H W 3"]) -> dict[str, Array]:
        """Compute what every query says of RGB in [0, 1] after every layer of the decoder.

        Logits ``masks`` ``[B, L, Q, h, w]`` and ``objectness`` ``[B, L, Q]``.
        """
        outputs: Any = self.mask_former.apply({"params": variables["params"]}, normalize(image))
        return dict(outputs)

    def select(self, outputs: dict[str, Array], height: int, width: int) -> Prediction:
        """Choose the mask after the last layer, and enlarge it to the image for ``fine``."""
        mask = select_mask(outputs["masks"][:, -1], outputs["objectness"][:, -1])[..., None]
        return Prediction(coarse=mask, fine=resize_bilinear(mask, height, width), batch_stats={})

    def predict(
        self,
        frozen_params: Variables,
        variables: Variables,
        image: Float[Array, "B H W 3"],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict both masks, see :class:`MaskNetwork`; training changes nothing in it."""
        return self.select(self.outputs(variables, image), *image.shape[1:3])
