"""Masks for anybody's pictures by a method without training, from Python."""

import os
from collections.abc import Mapping

from sempart_jax.predict.method_predictor import LoadedMethod, load_method
from sempart_jax.predict.methods import SHORT_SIDE
from sempart_jax.predict.picture_segmenter import PictureSegmenter
from sempart_jax.predict.pictures import check_options

__all__ = ["MethodSegmenter", "load_method_segmenter"]


class MethodSegmenter(PictureSegmenter):
    """Gives foreground masks of images of any size by a method over a frozen backbone.

    Called as ``ImageSegmenter`` is. Masks are made of whole patches, and soft only where ``refine``
    makes them so.

    Attributes:
        method: the method over its backbone.
        predictor: what gives its masks.
        refine: post-processing of ``sempart_jax.predict.postprocessing``.
        invert: see ``sempart_jax.predict.pictures.choose_side``.
    """

    def __init__(
        self, method: LoadedMethod, *, refine: str = "guided", invert: str = "never"
    ) -> None:
        """Choose the method and what is done to its masks.

        Args:
            method: see ``sempart_jax.predict.method_predictor.load_method``.
            refine: what sharpens the masks at the size of their images: ``none``, ``guided``,
                ``bilateral`` or ``bilateral_16_16_8``.
            invert: see ``sempart_jax.predict.pictures.choose_side``; methods choose their
                foreground themselves.

        Raises:
            ValueError: if a name is unknown.
        """
        super().__init__(method.predictor, refine=refine, invert=invert)
        self.method = method

    def _origin(self) -> Mapping[str, str]:
        parts = (
            self.method.backbone,
            self.method.backbone_fingerprint,
            self.method.decoder_fingerprint,
        )
        return {"method": self.method.name, "network": " ".join(parts)}


def load_method_segmenter(
    method: str,
    *,
    backbone: str = "dino_vits8",
    weights: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    resolution: int = SHORT_SIDE,
    refine: str = "guided",
    invert: str = "never",
    batch_size: int = 8,
) -> MethodSegmenter:
    """Set up a method that needs no training, for use on pictures.

    >>> segmenter = load_method_segmenter("tokencut")  # doctest: +SKIP
    >>> mask = segmenter(PIL.Image.open("photo.jpg"))  # doctest: +SKIP

    Args:
        method: ``tokencut``, ``lost``, ``deep_spectral``, ``found_multi`` or ``found_single``, see
            ``sempart_jax.predict.methods.METHODS``.
        backbone: one of ``sempart_jax.networks.names.BACKBONES``, or ``handcrafted``, which FOUND
            cannot do with.
        weights: file of the backbone's weights; by default they are downloaded.
        decoder: file of FOUND's trained decoder, for its two methods; without one they take what is
            not background.
        resolution: short side in pixels at which the backbone sees an image, rounded to its patch.
        refine: see :class:`MethodSegmenter`.
        invert: see :class:`MethodSegmenter`.
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
    loaded = load_method(
        method,
        backbone,
        weights=weights,
        decoder=decoder,
        short_side=resolution,
        batch_size=batch_size,
    )
    return MethodSegmenter(loaded, refine=refine, invert=invert)
