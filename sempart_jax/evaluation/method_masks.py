"""Masks of a baseline over a frozen backbone."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from PIL import Image

from sempart_jax.baselines.methods import Features, Method
from sempart_jax.data.images import resize
from sempart_jax.evaluation.masks import Failure, FramedImage, Mask
from sempart_jax.evaluation.protocols import Protocol
from sempart_jax.input_size import predict_in_few_shapes
from sempart_jax.models.normalization import normalize
from sempart_jax.models.vit import VisionTransformer


class MethodMasks:
    """A baseline's masks on patches, brought to the size of their images pixel by pixel."""

    def __init__(
        self,
        method: Method,
        backbone: nn.Module,
        params: Any,
        *,
        decoder: tuple[np.ndarray, float] | None = None,
        short_side: int,
        batch_size: int = 8,
    ) -> None:
        """Choose method and backbone.

        Args:
            method: one of ``baselines.methods.METHODS``.
            backbone: network with ``apply({"params": p}, normalised image)["keys"]``.
            params: its parameters.
            decoder: kernel and bias of FOUND's decoder.
            short_side: short side in pixels at which the backbone sees an image.
            batch_size: images that are processed together.
        """
        self._method, self._params, self._decoder = method, params, decoder
        self._short_side, self._batch_size = short_side, batch_size
        self._patch_size: int = backbone.patch_size

        options: dict[str, Any] = (
            {"class_attention": True} if isinstance(backbone, VisionTransformer) else {}
        )

        def features(params: Any, image: Array) -> dict[str, Array]:
            output: Any = backbone.apply({"params": params}, normalize(image), **options)
            return {name: output[name] for name in ("keys", *options)}

        self._features = jax.jit(features)

    def __call__(self, images: Sequence[FramedImage], protocol: Protocol) -> list[Mask | Failure]:
        """Segment; the masks depend on the protocol only through the images."""
        masks = predict_in_few_shapes(
            [framed.image for framed in images],
            self._segment,
            short_side=self._short_side,
            patch_size=self._patch_size,
            batch_size=self._batch_size,
        )
        return [_enlarged(mask, framed) for framed, mask in zip(images, masks, strict=True)]

    def _segment(self, inputs: np.ndarray) -> np.ndarray:
        height, width = (side // self._patch_size for side in inputs.shape[1:3])
        grid = np.stack([resize(image, height, width) for image in inputs])
        # A smaller last batch is filled up, so that it does not compile anew.
        fill = [(0, self._batch_size - len(inputs)), (0, 0), (0, 0), (0, 0)]
        batch, grid = (np.pad(each, fill) / np.float32(255) for each in (inputs, grid))
        found = jax.device_get(self._features(self._params, jnp.asarray(batch)))
        features = Features(**found, image=grid, decoder=self._decoder)
        return self._method(features)[: len(inputs)]


def _enlarged(mask: np.ndarray, framed: FramedImage) -> Mask:
    height, width = framed.image.shape[:2]
    picture = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST)).astype(np.float32)
