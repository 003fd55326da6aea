"""Where the masks come from that are scored: a predictor, or files of any method."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.data.folder import find_images
from sempart_jax.data.image_sizes import resize
from sempart_jax.data.images import UnreadableImageError, read_grey
from sempart_jax.metrics.protocols import Protocol

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
    """The masks of a trained network, or of a method over a frozen one."""

    def __init__(
        self, predictor: Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Mask]]
    ) -> None:
        """Choose what predicts: a ``Predictor``, or what is called as one is."""
        self._predictor = predictor

    def __call__(self, images: Sequence[FramedImage], protocol: Protocol) -> list[Mask | Failure]:
        """Predict; the masks depend on the protocol only through the images."""
        return list(self._predictor([framed.image for framed in images]))


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
        for path in find_images(folder, products=True):
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
        whole = resize(grey, *framed.original_size)
        return protocol.frame(whole).astype(np.float32) / 255
