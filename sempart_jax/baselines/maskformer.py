"""SelfMask's network: a backbone and queries, each of which is one mask and how good it is.

SelfMask (arXiv 2203.12614), Sec. 3.3, a MaskFormer (arXiv 2107.06278) without classes, whose pixel
decoder has no parameters and whose transformer decoder is DETR's (arXiv 2005.12872, App. A.3).
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from sempart_jax.kernels.initializers import fan_in_dense
from sempart_jax.kernels.resize import resize_bilinear
from sempart_jax.two_tricks.vit import MLP_RATIO, VisionTransformer


class DecoderLayer(nn.Module):
    """Post-norm transformer layer: queries attend to each other, then to the image.

    Attributes:
        num_heads: attention heads; divides the width.
    """

    num_heads: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B Q D"],
        query_embedding: Float[Array, "B Q D"],
        tokens: Float[Array, "B N D"],
    ) -> Float[Array, "B Q D"]:
        """Update the queries ``x``; ``query_embedding`` tells them apart in every layer."""
        width = x.shape[-1]
        places = x + query_embedding
        update = self._attention("self_attention")(places, places, x)
        x = _layer_norm("self_attention_norm")(x + update)
        update = self._attention("cross_attention")(x + query_embedding, tokens)
        x = _layer_norm("cross_attention_norm")(x + update)
        hidden = nn.relu(fan_in_dense(MLP_RATIO * width, width, "mlp_hidden")(x))
        update = fan_in_dense(width, MLP_RATIO * width, "mlp_output")(hidden)
        return _layer_norm("mlp_norm")(x + update)

    def _attention(self, name: str) -> nn.MultiHeadDotProductAttention:
        return nn.MultiHeadDotProductAttention(
            self.num_heads,
            # Xavier uniform of the three projections as one matrix [D, 3 D], as PyTorch keeps them:
            # +-sqrt(6 / (D + 3 D)), half the variance that each would have alone.
            kernel_init=nn.initializers.variance_scaling(0.5, "fan_avg", "uniform"),
            out_kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
            name=name,
        )


class MaskFormer(nn.Module):
    """Vision transformer, and a transformer decoder that turns queries into masks.

    Every parameter is trained, those of the backbone too. The parameters under ``encoder`` are the
    tree of the backbone on its own. The decoder computes in float32 with the width and the heads
    of the backbone, and without dropout.

    Attributes:
        encoder: the backbone.
        num_queries: masks that are proposed for an image.
        num_layers: layers of the transformer decoder, each of which proposes all masks anew.
        scale: how much finer than the patches the masks are.
    """

    encoder: VisionTransformer
    num_queries: int = 20
    num_layers: int = 6
    scale: int = 2

    @nn.compact
    def __call__(
        self, image: Float[Array | np.ndarray, "B H W 3"]
    ) -> dict[str, Float[Array, "B L Q ..."]]:
        """Propose masks.

        Args:
            image: RGB normalised with ImageNet's mean and standard deviation; the encoder's patch
                divides it into h x w patches.

        Returns:
            ``masks``: logits ``[B, L, Q, scale * h, scale * w]`` of Q masks after each of the L
            decoder layers, the last one the final; ``objectness``: logits ``[B, L, Q]`` of how
            good the masks are.

        Raises:
            ValueError: an attribute is below 1, or as the encoder raises.
        """
        for name in ("num_queries", "num_layers", "scale"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        batch, height, width = (
            image.shape[0],
            image.shape[1] // self.encoder.patch_size,
            image.shape[2] // self.encoder.patch_size,
        )
        tokens = self.encoder(image)["tokens"][:, 1:]
        queries = self._queries(tokens)

        # <q, enlarged tokens> = enlarged <q, tokens>, and a few masks are less than all channels.
        scores = jnp.einsum("bnd,blqd->bnlq", tokens, queries)
        scores = resize_bilinear(
            scores.reshape(batch, height, width, -1), self.scale * height, self.scale * width
        )
        masks = jnp.moveaxis(scores, -1, 1).reshape(*queries.shape[:3], *scores.shape[1:3])

        hidden = queries
        channels = tokens.shape[-1]
        for index in range(2):
            hidden = nn.relu(fan_in_dense(channels, channels, f"objectness_{index}")(hidden))
        objectness = fan_in_dense(1, channels, "objectness_2")(hidden)[..., 0]
        return {"masks": masks, "objectness": objectness}

    def _queries(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B L Q D"]:
        """Return the queries after each layer, normed; the next layer takes them as they were."""
        batch, _, width = tokens.shape
        embedding = self.param(
            "query_embedding", nn.initializers.normal(1.0), (self.num_queries, width)
        )
        embedding = jnp.broadcast_to(embedding, (batch, *embedding.shape))
        x = jnp.zeros_like(embedding)
        layers = []
        for index in range(self.num_layers):
            layer = DecoderLayer(self.encoder.num_heads, name=f"layer_{index}")
            x = layer(x, embedding, tokens)
            layers.append(x)
        return _layer_norm("norm")(jnp.stack(layers, axis=1))


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)
