"""Masks for anybody's pictures, from Python."""

import os
from collections.abc import Mapping

from sempart_jax.networks.builtin_model import builtin_model_path
from sempart_jax.predict.export import export_network
from sempart_jax.predict.load import TrainedNetwork, load_trained
from sempart_jax.predict.picture_segmenter import PictureSegmenter
from sempart_jax.predict.pictures import check_options
from sempart_jax.predict.predictor import any_size_predictor
from sempart_jax.runs.checkpoints import fingerprint_params

__all__ = ["ImageSegmenter", "load_segmenter"]


class ImageSegmenter(PictureSegmenter):
    """Gives soft foreground masks of images of any size by a trained network.

    Attributes:
        network: the trained network.
        predictor: the same on all local devices.
        refine: post-processing of ``sempart_jax.predict.postprocessing``.
        invert: see ``sempart_jax.predict.pictures.choose_side``.
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
            invert: see ``sempart_jax.predict.pictures.choose_side``.
            batch_size: images that are processed together.

        Raises:
            ValueError: if a name is unknown, or a size not positive.
        """
        check_options(refine, invert, resolution=resolution, batch_size=batch_size)
        predictor = any_size_predictor(network, short_side=resolution, batch_size=batch_size)
        super().__init__(predictor, refine=refine, invert=invert)
        self.network = network
        self._resolution = resolution

    def export(self, path: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Write the segmenter as a folder of programs that need no model code to run.

        ``sempart_jax.load_exported`` loads it. Takes seconds to a minute: the network is
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

    def _origin(self) -> Mapping[str, str]:
        parts = (
            fingerprint_params(self.network.frozen_params),
            fingerprint_params(self.network.variables),
            self.network.backbone,
            self.network.computation,
        )
        return {"network": " ".join(parts)}


def load_segmenter(
    source: str | os.PathLike[str] | None = None,
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
            Tricks* as ``.pth``, ``.npz`` or ``.safetensors``. By default the built-in model.
        backbone: name of the backbone that a released head was trained on; ``dino_vits8`` by
            default where its patch is 8. Runs and model files know theirs.
        weights: file of the backbone's weights, where ``source`` does not hold or find them; by
            default they are downloaded.
        resolution: see :class:`ImageSegmenter`.
        refine: see :class:`ImageSegmenter`.
        invert: see ``sempart_jax.predict.pictures.choose_side``.
        batch_size: see :class:`ImageSegmenter`.

    Returns:
        The segmenter.

    Raises:
        FileNotFoundError: if there is no such source, checkpoint or file of weights, or no
            built-in model in this installation.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if something is damaged, unknown or out of range, or the backbone must be told.
    """
    check_options(refine, invert, resolution=resolution, batch_size=batch_size)
    source = builtin_model_path() if source is None else source
    network = load_trained(source, backbone=backbone, weights=weights)
    return ImageSegmenter(
        network, resolution=resolution, refine=refine, invert=invert, batch_size=batch_size
    )
