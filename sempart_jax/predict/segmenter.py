"""Masks for anybody's pictures, from Python."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.predict.options import check_options
from sempart_jax.predict.pictures import Picture, as_rgb, choose_side
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.predict.predictor import Predictor

if TYPE_CHECKING:
    from sempart_jax.networks.trained import TrainedNetwork


class Segmenter:
    """Gives soft foreground masks of images of any size.

    ``load_segmenter`` makes one of a trained network, ``load_method_segmenter`` one of a method
    without training, whose masks are made of whole patches, and soft only where ``refine`` makes
    them so; those of saliency priors are soft.

    Attributes:
        predictor: what predicts the masks.
        refine: post-processing of ``sempart_jax.predict.postprocessing``.
        invert: see ``sempart_jax.predict.pictures.choose_side``.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        refine: str,
        invert: str,
        origin: Callable[[], Mapping[str, str]],
        network: "TrainedNetwork | None" = None,
    ) -> None:
        """Choose what predicts and what is done to its masks, see above; names are checked.

        ``origin`` says what predicts, by names and fingerprints; ``network`` is for its export.
        """
        check_options(refine, invert)
        self.predictor = predictor
        self.refine, self.invert = refine, invert
        self._origin, self._network = origin, network

    @property
    def network(self) -> "TrainedNetwork":
        """The trained network.

        Raises:
            ValueError: if there is none: a method segments, or an exported network.
        """
        if self._network is None:
            raise ValueError("this segmenter holds no network: load one by load_segmenter")
        return self._network

    @property
    def computation(self) -> str:
        """The types of its matrix products, in words."""
        return "float32" if self._network is None else self._network.computation

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
        """Choose the foreground of a mask that was predicted of an image, and refine it."""
        return postprocess(self.refine, image, choose_side(mask, self.invert))

    def settings(self) -> dict[str, Any]:
        """Say all that finished masks follow from but the image, by names, for JSON."""
        return {
            **self._origin(),
            "resolution": self.predictor.input_size(1, 1)[0],
            "refine": self.refine,
            "invert": self.invert,
        }

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        size: tuple[int, int] | None = None,
    ) -> None:
        """Write the segmenter as programs that need no model code to run.

        A folder is loaded by ``sempart_jax.load_exported``. A file whose name ends in ``.onnx``
        needs neither JAX nor this package: its ``image``, uint8 ``[N, H, W, 3]``, is any number of
        RGB pictures of one size, and its ``mask``, float32 ``[N, H, W]``, what the segmenter makes
        of pictures of that size, refined and inverted as by it. Takes seconds to minutes: the
        network is traced for each shape at which it sees images, or converted for one.

        Args:
            path: folder or file to make; it appears whole or not at all.
            dtype: of the stored weights, ``float32``, or ``bfloat16`` for half the size; of an ONNX
                file ``float32``.
            size: height and width of the pictures of an ONNX file, in pixels: one of the sizes at
                which the segmenter sees pictures; by default that of square ones.

        Raises:
            ModuleNotFoundError: if ``flatbuffers`` is not installed, or for ONNX ``jax2onnx``.
            ValueError: if there is something at ``path``, the type or size is none of those above,
                there is no network to export, or ONNX cannot hold it or its ``refine``.
        """
        # Not above: what is exported runs without the code of the model, by this class, too.
        if not os.fspath(path).endswith(".onnx"):
            if size is not None:
                raise ValueError("size is for a file that ends in .onnx: a folder holds all sizes")
            from sempart_jax.predict.export import export_segmenter

            export_segmenter(self, path, dtype)
            return
        if dtype != "float32":
            raise ValueError(f"an ONNX file holds its weights in float32, got dtype {dtype!r}")
        from sempart_jax.predict.onnx import export_onnx

        export_onnx(self, path, size)
