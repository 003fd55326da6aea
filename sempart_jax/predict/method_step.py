"""What a method without training makes of batches of images, mostly by a backbone's features."""

from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Float, UInt8
from PIL import Image

from sempart_jax.baselines.by_name import Features, Method
from sempart_jax.baselines.saliency.priors import saliency_priors
from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.normalization import from_bytes, normalize
from sempart_jax.predict.predictor import Fetch, Predictor, pad_batch
from sempart_jax.two_tricks.features import patch_features


def enlarge(
    mask: Float[np.ndarray, "rows columns"], height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """Bring a mask on patches to the size of its image: 0, or 1 for foreground or any object."""
    picture = Image.fromarray(np.minimum(mask, 1))
    return np.array(picture.resize((width, height), Image.Resampling.NEAREST))


class MethodStep:
    """A method over a backbone; each of seven image shapes compiles at first use."""

    def __init__(
        self,
        method: Method,
        backbone: nn.Module,
        *,
        class_attention: bool = False,
        decoder: tuple[np.ndarray, float] | None = None,
        numbered: bool = False,
    ) -> None:
        """Choose one of ``baselines.by_name.METHODS`` and its backbone.

        Only a vision transformer has ``class_attention``; ``decoder`` is FOUND's kernel and bias.
        """
        self._method, self._decoder, self._numbered = method, decoder, numbered
        self._patch_size: int = backbone.patch_size
        options: dict[str, Any] = {"class_attention": True} if class_attention else {}

        def features(params: Any, image: Array) -> dict[str, Array]:
            rgb = normalize(from_bytes(image))
            output = patch_features(backbone, params, rgb, **options)
            return {name: output[name] for name in ("keys", *options)}

        self._features = jax.jit(features)

    def predictor(self, params: Any, *, short_side: int, batch_size: int = 8) -> Predictor:
        """Give the masks of images of any size: made of whole patches, 0 or 1.

        The backbone has ``params``, and sees images with a short side of so many pixels.
        """

        def start(inputs: UInt8[np.ndarray, "B h w 3"]) -> Fetch:
            count = len(inputs)
            height, width = (side // self._patch_size for side in inputs.shape[1:3])
            grid = pad_batch(
                np.stack([resize(image, height, width) for image in inputs]), batch_size
            )
            found = self._features(params, pad_batch(inputs, batch_size))

            def segment() -> Float[np.ndarray, "B rows columns"]:
                features = Features(
                    **jax.device_get(found), image=grid / np.float32(255), decoder=self._decoder
                )
                return self._method(features)[:count].astype(np.float32)

            return segment

        return Predictor(
            start,
            short_side=short_side,
            patch_size=self._patch_size,
            batch_size=batch_size,
            fit=enlarge,
            numbered=self._numbered,
        )


def priors_predictor(*, short_side: int, batch_size: int = 8) -> Predictor:
    """Give soft masks of images of any size by saliency priors, which need no backbone."""

    def start(inputs: UInt8[np.ndarray, "B h w 3"]) -> Fetch:
        def segment() -> Float[np.ndarray, "B h w"]:
            return np.stack([saliency_priors(image / np.float32(255))["mask"] for image in inputs])

        return segment

    return Predictor(start, short_side=short_side, patch_size=1, batch_size=batch_size)
