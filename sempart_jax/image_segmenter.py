"""Masks for anybody's pictures, from Python."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageOps

from sempart_jax.postprocessing import POSTPROCESSINGS, postprocess
from sempart_jax.prediction import any_size_predictor
from sempart_jax.trained_network import TrainedNetwork, load_run

INVERSIONS = ("auto", "never", "always")

Picture = Shaped[np.ndarray, "H W 3"] | Shaped[np.ndarray, "H W"] | Image.Image
"""RGB or grey levels, uint8 or float in [0, 1]; or an image of Pillow in any mode."""


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
        if refine not in POSTPROCESSINGS:
            raise ValueError(
                f"unknown refine {refine!r}: choose one of {', '.join(POSTPROCESSINGS)}"
            )
        if invert not in INVERSIONS:
            raise ValueError(f"unknown invert {invert!r}: choose one of {', '.join(INVERSIONS)}")
        for name, value in {"resolution": resolution, "batch_size": batch_size}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.network = network
        self.predictor = any_size_predictor(network, short_side=resolution, batch_size=batch_size)
        self.refine, self.invert = refine, invert

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


def choose_side(mask: Float[np.ndarray, "H W"], invert: str) -> Float[np.ndarray, "H W"]:
    """Make the foreground of a mask 1: the training does not tell the two sides apart.

    Args:
        mask: soft mask in [0, 1].
        invert: ``auto`` inverts a mask that covers more than half of its image (two tricks,
            Sec. 5.1, for one image); ``never`` and ``always`` do so regardless.

    Returns:
        The mask, or 1 minus the mask.
    """
    inverted = invert == "always" or (invert == "auto" and float(mask.mean()) > 0.5)
    return 1 - mask if inverted else mask


def as_rgb(image: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """Turn a picture into RGB of 8 bits.

    Args:
        image: see :meth:`ImageSegmenter.__call__`.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        ValueError: if it is no picture, empty, or has values out of range.
    """
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray) and not hasattr(image, "__array__"):
        raise ValueError(
            f"an image is an array or an image of Pillow, got {type(image).__name__}: open files "
            "with PIL.Image.open"
        )
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(
            f"an image has the shape (height, width, 3) or (height, width), got {np.shape(image)}: "
            "drop an alpha channel, and take batches apart into a list"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an image is uint8 or float in [0, 1], got {array.dtype}")
    low, high = float(array.min()), float(array.max())
    # Comparisons with NaN are false.
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"a float image lies in [0, 1], got values from {low} to {high}: divide 8-bit values "
            "by 255"
        )
    return np.rint(array * 255).astype(np.uint8)


def load_segmenter(
    source: str | os.PathLike[str],
    *,
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
        source: directory of a run.
        weights: file of the backbone's weights, where it is not where the run found it.
        resolution: see :class:`ImageSegmenter`.
        refine: see :class:`ImageSegmenter`.
        invert: see :func:`choose_side`.
        batch_size: see :class:`ImageSegmenter`.

    Returns:
        The segmenter.

    Raises:
        FileNotFoundError: if there is no run, checkpoint or file of weights.
        ValueError: if something is damaged, unknown or out of range.
    """
    network = load_run(Path(source), weights=None if weights is None else os.fspath(weights))
    return ImageSegmenter(
        network, resolution=resolution, refine=refine, invert=invert, batch_size=batch_size
    )
