"""Masks for anybody's pictures, from Python."""

import os
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.export import export_network
from sempart_jax.pictures import (
    INVERSIONS,
    Picture,
    as_rgb,
    check_options,
    choose_side,
)
from sempart_jax.postprocessing import postprocess
from sempart_jax.prediction import any_size_predictor
from sempart_jax.trained_network import TrainedNetwork, load_trained

__all__ = [
    "INVERSIONS",
    "ImageSegmenter",
    "Picture",
    "as_rgb",
    "choose_side",
    "load_segmenter",
]


class ImageSegmenter:
    """Gives soft foreground masks of images of any size.

    Attributes:
        network: the trained network.
        predictor: the same on all local devices.
        refine: post-processing of ``sempart_jax.postprocessing``.
        invert: see :func:`choose_side`.
    """

    def __init__(
        self,
        network: TrainedNetwork,
        *,
        resolution: int | None = None,
        refine: str = "guided",
        invert: str = "auto",
        batch_size: int = 8,
    ) -> None:
        """Put a network on all local devices; each of seven image shapes compiles at first use.

        Args:
            network: trained network.
            resolution: short side in pixels at which the network sees an image, rounded to its
                patch; that of its training if None.
            refine: what sharpens the masks at the size of their images: ``none``, ``guided``,
                ``bilateral`` or ``bilateral_16_16_8``.
            invert: see :func:`choose_side`.
            batch_size: images that are processed together.

        Raises:
            ValueError: if a name is unknown, or a size not positive.
        """
        check_options(refine, invert, resolution=resolution, batch_size=batch_size)
        self.network = network
        self.predictor = any_size_predictor(network, short_side=resolution, batch_size=batch_size)
        self.refine, self.invert = refine, invert
        self._resolution = resolution

    @overload
    def __call__(self, images: Picture) -> Float[np.ndarray, "H W"]: ...

    @overload
    def __call__(self, images: Sequence[Picture]) -> list[Float[np.ndarray, "_ _"]]: ...

    def __call__(self, images: Any) -> Any:
        """Segment an image, or several.

        Args:
            images: an image or a list of images, of any sizes: RGB ``[H, W, 3]`` or grey
                ``[H, W]``, uint8 or float in [0, 1], or an image of Pillow, whose EXIF rotation is
                applied.

        Returns:
            Soft mask, float32 ``[H, W]`` in [0, 1], 1 is foreground; a list of masks for a list.

        Raises:
            ValueError: if something is no image.
        """
        if isinstance(images, list | tuple):
            arrays = [as_rgb(image) for image in images]
            masks = self.predictor(arrays)
            return [self.finish(image, mask) for image, mask in zip(arrays, masks, strict=True)]
        return self([images])[0]

    def finish(
        self, image: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"]
    ) -> Float[np.ndarray, "H W"]:
        """Choose the foreground of a predicted mask and refine it.

        Args:
            image: RGB ``[H, W, 3]``.
            mask: what the network predicts, in [0, 1].

        Returns:
            Soft mask in [0, 1].
        """
        return postprocess(self.refine, image, choose_side(mask, self.invert))

    def export(self, path: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Write the segmenter as a folder of programs that need no model code to run.

        ``sempart_jax.exported.load_exported`` loads it. Takes seconds to a minute: the network is
        traced for each shape at which it sees images.

        Args:
            path: folder to make; it appears whole or not at all.
            dtype: of the stored weights, ``float32``, or ``bfloat16`` for half the size.

        Raises:
            ModuleNotFoundError: if ``flatbuffers`` is not installed.
            ValueError: if there is something at ``path``, or the type is unknown.
        """
        export_network(
            path,
            self.network,
            short_side=self._resolution,
            refine=self.refine,
            invert=self.invert,
            dtype=dtype,
        )


def load_segmenter(
    source: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    resolution: int | None = None,
    refine: str = "guided",
    invert: str = "auto",
    batch_size: int = 8,
) -> ImageSegmenter:
    """Load a trained network for use on pictures.

    >>> segmenter = load_segmenter("runs/tricks")  # doctest: +SKIP
    >>> mask = segmenter(PIL.Image.open("photo.jpg"))  # doctest: +SKIP

    Args:
        source: a run's directory; one checkpoint of it, ``RUN/checkpoints/STEP`` or
            ``RUN/best/STEP``; a model file (``.safetensors``); or the head released with *Two
            Tricks* as ``.pth``, ``.npz`` or ``.safetensors``.
        backbone: name of the backbone that a released head was trained on; ``dino_vits8`` by
            default where its patch is 8. Runs and model files know theirs.
        weights: file of the backbone's weights, where ``source`` does not hold or find them; by
            default they are downloaded.
        resolution: see :class:`ImageSegmenter`.
        refine: see :class:`ImageSegmenter`.
        invert: see :func:`choose_side`.
        batch_size: see :class:`ImageSegmenter`.

    Returns:
        The segmenter.

    Raises:
        FileNotFoundError: if there is no such source, checkpoint or file of weights.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if something is damaged, unknown or out of range, or the backbone must be told.
    """
    check_options(refine, invert, resolution=resolution, batch_size=batch_size)
    network = load_trained(source, backbone=backbone, weights=weights)
    return ImageSegmenter(
        network, resolution=resolution, refine=refine, invert=invert, batch_size=batch_size
    )
