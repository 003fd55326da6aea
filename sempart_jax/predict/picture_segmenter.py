"""From predicted masks to finished ones of anybody's pictures, whatever predicts them."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.predict.pictures import Picture, as_rgb, check_options, choose_side
from sempart_jax.predict.postprocessing import postprocess


@runtime_checkable
class MaskPredictor(Protocol):
    """Gives masks of images of any size, which it sees in few.

    Every ``input_size.FewShapesPredictor`` does. ``network_input``, ``start`` and ``fit`` are its
    three steps, for those who feed images in a stream; calling it takes them one after another.

    Attributes:
        batch_size: images that are processed together.
    """

    batch_size: int

    def network_input(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Bring an image to one of a few sizes."""

    def start(
        self, inputs: UInt8[np.ndarray, "B h w 3"]
    ) -> Callable[[], Float[np.ndarray, "B rows columns"]]:
        """Begin to predict for inputs of one size, ``batch_size`` at most.

        Returns:
            What waits for the masks and gives them: on pixels or on patches, in [0, 1].
        """

    def fit(
        self, mask: Float[np.ndarray, "rows columns"], height: int, width: int
    ) -> Float[np.ndarray, "H W"]:
        """Bring a predicted mask to the size of its image."""

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Predict a mask for each image, of its height and width."""


class PictureSegmenter(abc.ABC):
    """Gives soft foreground masks of images of any size.

    Attributes:
        predictor: what predicts them.
        refine: post-processing of ``sempart_jax.predict.postprocessing``.
        invert: see ``sempart_jax.predict.pictures.choose_side``.
    """

    def __init__(self, predictor: MaskPredictor, *, refine: str, invert: str) -> None:
        """Choose what predicts and what is done to its masks.

        Args:
            predictor: gives masks.
            refine: name of a post-processing.
            invert: see ``sempart_jax.predict.pictures.choose_side``.

        Raises:
            ValueError: if a name is unknown.
        """
        check_options(refine, invert)
        self.predictor = predictor
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
            mask: what is predicted of it, at its size, in [0, 1].

        Returns:
            Soft mask in [0, 1].
        """
        return postprocess(self.refine, image, choose_side(mask, self.invert))

    def settings(self) -> dict[str, Any]:
        """Say all that finished masks follow from, but for the image.

        Returns:
            By name, what JSON can hold; a mask may be another one where a value is.
        """
        pixel = np.zeros((1, 1, 3), np.uint8)
        return {
            **self._origin(),
            "resolution": self.predictor.network_input(pixel).shape[0],
            "refine": self.refine,
            "invert": self.invert,
        }

    @abc.abstractmethod
    def _origin(self) -> Mapping[str, str]:
        """Say what predicts, by names and fingerprints."""
