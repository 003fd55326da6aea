"""FOUND's decoder: foreground by one linear function of the keys (arXiv 2212.07834, Sec. 3.2)."""

from typing import Any

import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from sempart_jax.kernels.initializers import fan_in_dense
from sempart_jax.kernels.resize import resize_bilinear


class FoundDecoder(nn.Module):
    """Coarse mask logits from backbone keys, enlarged to the image's size.

    It is called as :class:`sempart_jax.two_tricks.head.SegmentationHead`.

    Attributes:
        patch_size: side of the backbone's patches in pixels.
    """

    patch_size: int = 8

    @nn.compact
    def __call__(
        self, keys: Float[Array, "B h w D"], image: Float[Array, "B H W 3"], train: bool = False
    ) -> dict[str, Float[Array, "B _ _ 1"]]:
        """Predict the logits of both masks.

        Args:
            keys: backbone keys ``[B, h, w, D]``.
            image: ``[B, h * patch_size, w * patch_size, 3]``, for its size alone.
            train: changes nothing.

        Returns:
            ``{"coarse": [B, h, w, 1], "fine": [B, H, W, 1]}``, logits of the foreground.

        Raises:
            ValueError: if the sizes do not belong together.
        """
        del train
        height, width, channels = keys.shape[1:]
        wanted = (height * self.patch_size, width * self.patch_size)
        if image.shape[1:3] != wanted:
            raise ValueError(
                f"keys of {height}x{width} patches of {self.patch_size} belong to an image of "
                f"{wanted[0]}x{wanted[1]} pixels, got {image.shape[1]}x{image.shape[2]}"
            )
        coarse = fan_in_dense(1, channels, "projection")(keys)
        return {"coarse": coarse, "fine": resize_bilinear(coarse, *wanted)}


def decoder_weights(variables: dict[str, Any]) -> tuple[Float[np.ndarray, " D"], float]:
    """Take the weights out of the variables of :class:`FoundDecoder`.

    Args:
        variables: ``{"params"}`` of the decoder.

    Returns:
        Kernel ``[D]`` and bias, as ``baselines.found.decoder_logits`` wants them.
    """
    projection = variables["params"]["projection"]
    return np.asarray(projection["kernel"])[:, 0], float(projection["bias"][0])
