"""Where the masks come from that are scored: a trained network, or files of any method."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sempart_jax.data.folder import find_images
from sempart_jax.data.images import UnreadableImageError, read_grey
from sempart_jax.evaluation.protocols import Protocol
from sempart_jax.input_size import input_size
from sempart_jax.models.segmenter import Variables
from sempart_jax.prediction import Predictor

Mask = Float[np.ndarray, "_ _"]


@dataclasses.dataclass(frozen=True, eq=False)
class FramedImage:
    """What a protocol looks at of one image.

    Attributes:
        name: name of the image.
        image: RGB ``[H, W, 3]``.
        original_size: height and width of the whole image in pixels.
    """

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    original_size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no mask of an image."""

    reason: str


MaskSource = Callable[[Sequence[FramedImage], Protocol], list[Mask | Failure]]
"""Gives a soft mask in [0, 1], float32 of the image's height and width, for each image in turn, or
says why there is none."""


class NetworkMasks:
    """The fine masks of a network, which sees images of any size in few shapes."""

    def __init__(
        self,
        predictor: Predictor,
        replicated_head_variables: Variables,
        *,
        short_side: int,
        patch_size: int,
        batch_size: int = 8,
    ) -> None:
        """Choose the network.

        Args:
            predictor: network.
            replicated_head_variables: ``{"params", "batch_stats"}`` on all devices.
            short_side: short side in pixels at which it sees an image: what it was trained at.
            patch_size: side of the backbone's patches in pixels.
            batch_size: images that are processed together.
        """
        self._predictor = predictor
        self._variables = replicated_head_variables
        self._short_side, self._patch_size = short_side, patch_size
        self._batch_size = batch_size

    def __call__(self, images: Sequence[FramedImage], protocol: Protocol) -> list[Mask | Failure]:
        """Predict; what is scored does not depend on the protocol but through the images."""
        places: dict[tuple[int, int], list[int]] = {}
        for place, framed in enumerate(images):
            height, width = framed.image.shape[:2]
            size = input_size(height, width, self._short_side, self._patch_size)
            places.setdefault(size, []).append(place)
        masks: dict[int, Mask | Failure] = {}
        for (height, width), members in places.items():
            batch = np.stack([_resize(images[place].image, height, width) for place in members])
            fine = self._predictor(self._variables, batch, self._batch_size)["fine"]
            for place, mask in zip(members, fine, strict=True):
                resized = _resize(mask, *images[place].image.shape[:2])
                masks[place] = np.clip(resized, 0, 1)
        return [masks[place] for place in range(len(images))]


class SavedMasks:
    """Masks of any method, one file an image, found by the image's name."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Find the files.

        Args:
            folder: holds a file for each image, named as the image up to the extension. Grey
                levels are foreground from 0 to 255. A mask covers its whole image; one of another
                size is stretched to it.

        Raises:
            FileNotFoundError: if there is no folder or no image in it.
            ValueError: if two files have one name up to the extension.
        """
        self._paths: dict[str, Path] = {}
        for path in find_images(folder):
            other = self._paths.setdefault(path.stem, path)
            if other != path:
                raise ValueError(f"two masks for one image: {other} and {path}: remove one of them")

    @property
    def paths(self) -> Mapping[str, Path]:
        """File of each mask, by the name of its image."""
        return self._paths

    def __call__(self, images: Sequence[FramedImage], protocol: Protocol) -> list[Mask | Failure]:
        """Read the masks and cut out what the protocol looks at; KeyError without a file."""
        return [self._read(framed, protocol) for framed in images]

    def _read(self, framed: FramedImage, protocol: Protocol) -> Mask | Failure:
        try:
            grey = read_grey(self._paths[framed.name])
        except UnreadableImageError as error:
            return Failure(str(error))
        whole = _resize(grey, *framed.original_size)
        return protocol.frame(whole).astype(np.float32) / 255


def _resize(
    pixels: UInt8[np.ndarray, "H W *C"] | Float[np.ndarray, "H W"], height: int, width: int
) -> UInt8[np.ndarray, "h w *C"] | Float[np.ndarray, "h w"]:
    """Resize by bilinear sampling, antialiased where it shrinks."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)
