"""Backbone and head as one network from an RGB image in [0, 1] to masks in [0, 1]."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Float

from sempart_jax.filters import grey_guide, guided_filter
from sempart_jax.models.head import SegmentationHead
from sempart_jax.models.normalization import normalize

Variables = dict[str, Any]


class Prediction(NamedTuple):
    """What the network says of a batch of images.

    Attributes:
        keys: backbone keys ``[B, h, w, D]``, without gradient.
        coarse: mask on patches ``[B, h, w, 1]`` in [0, 1]; 1 is foreground.
        fine: mask on pixels ``[B, H, W, 1]`` in [0, 1].
        batch_stats: running averages of the head's batch norm after this call.
    """

    keys: Array
    coarse: Array
    fine: Array
    batch_stats: Variables


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A frozen backbone, the head on it, and the guided filter behind both.

    Attributes:
        backbone: network with ``apply({"params": p}, normalised image)["keys"]``.
        head: the trained part.
        radius: radius of the guided filter in pixels.
        filter_eps: regularisation of the guided filter.
    """

    backbone: nn.Module
    head: SegmentationHead
    radius: int = 9
    filter_eps: float = 1e-3

    def init(self, key: Array, backbone_params: Variables, image_size: int) -> Variables:
        """Draw the head's first parameters.

        Args:
            key: random key.
            backbone_params: parameters of the backbone, for the width of its keys.
            image_size: side of a square image in pixels that the patch divides.

        Returns:
            ``{"params", "batch_stats"}`` of the head.
        """

        def initialise(backbone_params: Variables, key: Array) -> Variables:
            image = jnp.zeros((1, image_size, image_size, 3))
            keys = self._keys(backbone_params, image)
            return dict(self.head.init(key, keys, image))

        return jax.jit(initialise)(backbone_params, key)

    def _keys(self, backbone_params: Variables, image: Array) -> Array:
        output: Any = self.backbone.apply({"params": backbone_params}, image)
        return lax.stop_gradient(output["keys"])

    def predict(
        self,
        backbone_params: Variables,
        head_variables: Variables,
        image: Float[Array, "B H W 3"],
        *,
        train: bool = False,
    ) -> Prediction:
        """Predict both masks.

        Args:
            backbone_params: parameters of the backbone; no gradient flows into it.
            head_variables: ``{"params", "batch_stats"}`` of the head.
            image: RGB ``[B, H, W, 3]`` in [0, 1], sides divisible by the patch.
            train: batch norm by the statistics of the batch instead of the running averages.

        Returns:
            Keys, masks and running averages.
        """
        image = normalize(image)
        keys = self._keys(backbone_params, image)
        logits, updates = self.head.apply(
            head_variables, keys, image, train=train, mutable=["batch_stats"]
        )
        return Prediction(
            keys=keys,
            coarse=nn.sigmoid(logits["coarse"]),
            fine=nn.sigmoid(logits["fine"]),
            batch_stats=dict(updates["batch_stats"]),
        )

    def refine(
        self, image: Float[Array, "B H W 3"], mask: Float[Array, "B H W 1"]
    ) -> Float[Array, "B H W 1"]:
        """Sharpen a mask by the guided filter (trick 1) and clip it to [0, 1].

        Args:
            image: RGB ``[B, H, W, 3]`` in [0, 1].
            mask: mask ``[B, H, W, 1]`` in [0, 1].

        Returns:
            Mask ``[B, H, W, 1]`` in [0, 1].
        """
        filtered = guided_filter(grey_guide(image), mask, self.radius, self.filter_eps)
        return jnp.clip(filtered, 0.0, 1.0)
