"""Load what segments anybody's pictures: a trained network, or a method without training."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging

from sempart_jax.baselines.by_name import MASKCUT, METHODS, PRIORS, is_found
from sempart_jax.baselines.found import decoder_weights
from sempart_jax.kernels.tensor_tree import fingerprint_params
from sempart_jax.networks import builtin_model
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.by_name import name_network
from sempart_jax.networks.model_format import is_model_file
from sempart_jax.networks.names import FOUND
from sempart_jax.networks.pretrained import DownloadError
from sempart_jax.networks.released import read_found_decoder
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.method_step import MethodStep, priors_predictor
from sempart_jax.predict.network_step import NetworkStep
from sempart_jax.predict.options import (
    METHOD_BACKBONE,
    METHOD_SHORT_SIDE,
    PRIORS_SHORT_SIDE,
    check_method,
    check_options,
)
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.runs.load_network import load_network
from sempart_jax.two_tricks.train_step import replicate


def load_segmenter(
    source: str | os.PathLike[str] | None = None,
    *,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    resolution: int | None = None,
    refine: str = "guided",
    invert: str | None = None,
    batch_size: int = 8,
) -> Segmenter:
    """Load a trained network for use on pictures.

    >>> segmenter = load_segmenter()  # doctest: +SKIP
    >>> mask = segmenter(PIL.Image.open("photo.jpg"))  # doctest: +SKIP

    Args:
        source: a run's directory; one checkpoint of it, ``RUN/checkpoints/STEP`` or
            ``RUN/best/STEP``; a model file (``.safetensors``); or the head released with *Two
            Tricks* as ``.pth``, ``.npz`` or ``.safetensors``. ``dinov2``, the default, is the head
            over DINOv2 ViT-S/14 that comes with the package; ``builtin`` needs no download, and
            takes the place of the default, with a warning, where DINOv2 cannot be downloaded.
        backbone: name of the backbone that a released head was trained on; ``dino_vits8`` by
            default where its patch is 8. Runs and model files know theirs.
        weights: file of the backbone's weights, where ``source`` does not hold or find them; by
            default they are downloaded.
        resolution: short side in pixels at which the network sees an image, rounded to its patch;
            that of its training if None.
        refine: what sharpens the masks at the size of their images: ``none``, ``guided``,
            ``bilateral`` or ``bilateral_16_16_8``.
        invert: see ``sempart_jax.predict.pictures.choose_side``. By default ``never`` where
            training has told the network which side is foreground, as that of the package, or
            else ``auto``.
        batch_size: images that are processed together.

    Returns:
        The segmenter.

    Raises:
        FileNotFoundError: if there is no such source, checkpoint or file of weights, or no
            built-in model in this installation.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if something is damaged, unknown or out of range, or the backbone must be told.
    """
    check_options(refine, invert or "auto", resolution=resolution, batch_size=batch_size)
    try:
        network = load_network(source, backbone=backbone, weights=weights)
    except DownloadError as error:
        if (source, weights) != (None, None) or builtin_model.find_builtin_model() is None:
            raise
        logging.warning(
            "using the built-in model, whose masks are worse than those over DINOv2: %s", error
        )
        network = load_network(builtin_model.NAME)
    return network_segmenter(
        network, resolution=resolution, refine=refine, invert=invert, batch_size=batch_size
    )


def network_segmenter(
    network: TrainedNetwork,
    *,
    resolution: int | None = None,
    refine: str = "guided",
    invert: str | None = None,
    batch_size: int = 8,
) -> Segmenter:
    """Put a network on all local devices; each of seven image shapes compiles at first use.

    The other arguments, and the ValueError that they raise, are those of :func:`load_segmenter`.
    """
    invert = invert or ("never" if network.foreground_chosen else "auto")
    check_options(refine, invert, resolution=resolution, batch_size=batch_size)
    predictor = NetworkStep(network.modules, replicate(network.frozen_params)).predictor(
        replicate(network.variables),
        short_side=network.short_side if resolution is None else resolution,
        batch_size=batch_size,
        origin=network.origin,
    )

    def origin() -> Mapping[str, str]:
        parts = (
            fingerprint_params(network.frozen_params),
            fingerprint_params(network.variables),
            network.backbone,
            network.computation,
        )
        return {"network": " ".join(parts)}

    return Segmenter(predictor, refine=refine, invert=invert, origin=origin, network=network)


def load_method_segmenter(
    method: str,
    *,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    features: str = "",
    resolution: int | None = None,
    refine: str = "guided",
    invert: str = "never",
    batch_size: int = 8,
) -> Segmenter:
    """Set up a method that needs no training, for use on pictures.

    >>> segmenter = load_method_segmenter("tokencut")  # doctest: +SKIP
    >>> mask = segmenter(PIL.Image.open("photo.jpg"))  # doctest: +SKIP

    Args:
        method: ``tokencut``, ``maskcut``, ``lost``, ``deep_spectral``, ``found_multi`` or
            ``found_single``, see ``sempart_jax.baselines.by_name.METHODS``; or ``priors``, which
            has no backbone, and soft masks. The foreground of ``maskcut`` is all of its objects.
        backbone: one of ``sempart_jax.networks.names.BACKBONES``, or ``handcrafted``, which FOUND
            cannot do with; ``dino_vits8`` by default.
        weights: file of the backbone's weights; by default they are downloaded.
        decoder: FOUND's decoder, for its two methods: its released file, or what else
            :func:`load_segmenter` takes of a run that has trained one; without one they take what
            is not background.
        features: which of the backbone's features the method looks at, see
            ``sempart_jax.networks.names.FEATURES``; empty for those of the backbone's family.
        resolution: short side in pixels at which an image is seen, rounded to the backbone's patch;
            320 by default, or 128 by ``priors``.
        refine: see :func:`load_segmenter`.
        invert: see :func:`load_segmenter`; methods choose their foreground themselves.
        batch_size: images that are processed together.

    Returns:
        The segmenter.

    Raises:
        FileNotFoundError: if a file of weights cannot be had.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if something is unknown, damaged or out of range, or the parts do not go
            together.
    """
    check_options(refine, invert, resolution=resolution, batch_size=batch_size)
    check_method(method, backbone, decoder, weights, features)
    if method == PRIORS:
        short_side = PRIORS_SHORT_SIDE if resolution is None else resolution
        predictor = priors_predictor(short_side=short_side, batch_size=batch_size)
        return Segmenter(predictor, refine=refine, invert=invert, origin=lambda: {"method": method})
    backbone = METHOD_BACKBONE if backbone is None else backbone
    # What can be wrong with a small file shows before a large one is downloaded.
    read_decoder = None if decoder is None else _read_decoder(decoder, backbone, weights)
    module, params = load_backbone(
        backbone, "" if weights is None else os.fspath(weights), features=features
    )
    if read_decoder is not None and len(read_decoder[0]) != module.width:
        raise ValueError(
            f"{decoder} holds a decoder for keys of width {len(read_decoder[0])}, but those of "
            f"{backbone} have {module.width}: name the backbone that it was trained on"
        )
    step = MethodStep(
        METHODS[method],
        module,
        class_attention=is_found(method) and read_decoder is None,
        decoder=read_decoder,
        numbered=method == MASKCUT,
    )

    def origin() -> Mapping[str, str]:
        parts = (backbone, fingerprint_params(params), fingerprint_params(read_decoder))
        # By itself where it is of the family, as older records have it.
        chosen = {"features": features} if features else {}
        return {"method": method, "network": " ".join(parts), **chosen}

    short_side = METHOD_SHORT_SIDE if resolution is None else resolution
    predictor = step.predictor(params, short_side=short_side, batch_size=batch_size)
    return Segmenter(predictor, refine=refine, invert=invert, origin=origin)


def _read_decoder(
    path: str | os.PathLike[str], backbone: str, weights: str | os.PathLike[str] | None
) -> tuple[np.ndarray, float]:
    """Read a decoder that its authors have released, or that has been trained here."""
    if not Path(path).is_dir() and not is_model_file(path):
        return read_found_decoder(path)
    network = load_network(path, backbone=backbone, weights=weights)
    name = name_network(network.modules)
    if name != FOUND:
        raise ValueError(f"{path} holds the network {name}, and a decoder of FOUND is wanted")
    return decoder_weights(network.variables)
