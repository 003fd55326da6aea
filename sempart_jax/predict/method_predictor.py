"""Masks of the methods without training, over a frozen backbone, for images of any size."""

import copy
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Float, UInt8
from PIL import Image

from sempart_jax.baselines.found import decoder_weights
from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.normalization import from_bytes, normalize
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.by_name import name_network
from sempart_jax.networks.model_format import is_model_file
from sempart_jax.networks.names import FOUND
from sempart_jax.networks.released import read_found_decoder
from sempart_jax.predict.input_size import FewShapesPredictor
from sempart_jax.predict.load import load_trained
from sempart_jax.predict.methods import (
    METHODS,
    SHORT_SIDE,
    Features,
    Method,
    check_method,
    is_found,
)
from sempart_jax.runs.checkpoints import fingerprint_params


class MethodPredictor(FewShapesPredictor):
    """A method's masks on patches; for whoever feeds images as ``AnySizePredictor`` is fed."""

    def __init__(
        self,
        method: Method,
        backbone: nn.Module,
        params: Any,
        *,
        class_attention: bool = False,
        decoder: tuple[np.ndarray, float] | None = None,
        short_side: int = SHORT_SIDE,
        batch_size: int = 8,
    ) -> None:
        """Choose method and backbone; each of seven image shapes compiles at first use.

        Args:
            method: one of ``predict.methods.METHODS``.
            backbone: network with ``apply({"params": p}, normalised image)["keys"]``.
            params: its parameters.
            class_attention: whether the method is shown the class token's attention, which a
                vision transformer alone has.
            decoder: kernel and bias of FOUND's decoder.
            short_side: short side in pixels at which the backbone sees an image.
            batch_size: images that are processed together.
        """
        super().__init__(
            short_side=short_side, patch_size=backbone.patch_size, batch_size=batch_size
        )
        self._method, self._params, self._decoder = method, params, decoder
        options: dict[str, Any] = {"class_attention": True} if class_attention else {}

        def features(params: Any, image: Array) -> dict[str, Array]:
            rgb = normalize(from_bytes(image))
            output: Any = backbone.apply({"params": params}, rgb, **options)
            return {name: output[name] for name in ("keys", *options)}

        self._features = jax.jit(features)

    def with_params(self, params: Any) -> "MethodPredictor":
        """Return the same over other parameters of the backbone; nothing is compiled anew."""
        other = copy.copy(self)
        other._params = params
        return other

    def start(
        self, inputs: UInt8[np.ndarray, "B h w 3"]
    ) -> Callable[[], Float[np.ndarray, "B rows columns"]]:
        """Begin with the features of a batch of inputs of one size; fewer are padded to one.

        Returns:
            What waits for the features and segments by them: masks on patches, 0 or 1.
        """
        count = len(inputs)
        height, width = (side // self._patch_size for side in inputs.shape[1:3])
        grid = np.stack([resize(image, height, width) for image in inputs])
        if count < self.batch_size:
            fill = ((0, self.batch_size - count), (0, 0), (0, 0), (0, 0))
            inputs, grid = np.pad(inputs, fill), np.pad(grid, fill)
        found = self._features(self._params, inputs)

        def segment() -> Float[np.ndarray, "B rows columns"]:
            features = Features(
                **jax.device_get(found), image=grid / np.float32(255), decoder=self._decoder
            )
            return self._method(features)[:count].astype(np.float32)

        return segment

    @staticmethod
    def fit(
        mask: Float[np.ndarray, "rows columns"], height: int, width: int
    ) -> Float[np.ndarray, "H W"]:
        """Bring a mask to the size of its image, pixel by pixel: it stays 0 or 1."""
        picture = Image.fromarray(mask)
        return np.array(picture.resize((width, height), Image.Resampling.NEAREST))


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedMethod:
    """A method over its backbone, and all that its masks follow from.

    Attributes:
        predictor: gives the masks.
        name: of the method.
        backbone: name of the backbone.
        backbone_fingerprint: of the backbone's parameters.
        decoder_fingerprint: of FOUND's decoder, or of none.
        short_side: short side in pixels at which the backbone sees an image.
    """

    predictor: MethodPredictor
    name: str
    backbone: str
    backbone_fingerprint: str
    decoder_fingerprint: str
    short_side: int


def load_method(
    method: str,
    backbone: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    short_side: int = SHORT_SIDE,
    batch_size: int = 8,
) -> LoadedMethod:
    """Set a method up over a backbone.

    Args:
        method: name among ``predict.methods.METHODS``.
        backbone: name of the backbone.
        weights: file of its weights; downloaded by name if None.
        decoder: FOUND's decoder, for the methods of that name: its released file, or what else
            ``load_trained`` takes of a run that has trained one.
        short_side: short side in pixels at which the backbone sees an image.
        batch_size: images that are processed together.

    Raises:
        FileNotFoundError: if a file of weights cannot be had.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if a name is unknown, the method does not go with the backbone, or a file holds
            no weights or no decoder for it.
    """
    check_method(method, backbone, decoder)
    # What can be wrong with a small file shows before a large one is downloaded.
    read_decoder = None if decoder is None else _read_decoder(decoder, backbone, weights)
    module, params = load_backbone(backbone, "" if weights is None else os.fspath(weights))
    if read_decoder is not None and len(read_decoder[0]) != module.width:
        raise ValueError(
            f"{decoder} holds a decoder for keys of width {len(read_decoder[0])}, but those of "
            f"{backbone} have {module.width}: name the backbone that it was trained on"
        )
    predictor = MethodPredictor(
        METHODS[method],
        module,
        params,
        class_attention=is_found(method) and read_decoder is None,
        decoder=read_decoder,
        short_side=short_side,
        batch_size=batch_size,
    )
    return LoadedMethod(
        predictor,
        name=method,
        backbone=backbone,
        backbone_fingerprint=fingerprint_params(params),
        decoder_fingerprint=fingerprint_params(read_decoder),
        short_side=short_side,
    )


def _read_decoder(
    path: str | os.PathLike[str], backbone: str, weights: str | os.PathLike[str] | None
) -> tuple[np.ndarray, float]:
    """Read a decoder that its authors have released, or that has been trained here."""
    if not Path(path).is_dir() and not is_model_file(path):
        return read_found_decoder(path)
    network = load_trained(path, backbone=backbone, weights=weights)
    name = name_network(network.modules)
    if name != FOUND:
        raise ValueError(f"{path} holds the network {name}, and a decoder of FOUND is wanted")
    return decoder_weights(network.variables)
