"""Whose masks are scored: a trained run's, a method's, or saved ones."""

import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.baselines.by_name import PRIORS
from sempart_jax.data.folder import comparable, find_images
from sempart_jax.data.image_sizes import check_not_turned, resize
from sempart_jax.data.images import UnreadableImageError, check_foreground, read_grey
from sempart_jax.host.devices import describe_devices
from sempart_jax.metrics.protocols import Protocol
from sempart_jax.predict.load import load_method_segmenter, load_segmenter
from sempart_jax.predict.options import METHOD_BACKBONE
from sempart_jax.predict.segmenter import Segmenter

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
    """Why an image is not scored."""

    reason: str


MaskSource = Callable[[Sequence[FramedImage], Protocol], list[Mask | Failure]]
"""Gives a soft mask in [0, 1], float32 of the image's height and width, for each image in turn, or
says why there is none."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where masks come from.

    Attributes:
        source: gives the masks.
        facts: label and value of what a reader wants to know of them.
        names: of the images that there are masks of, as ``data.folder.comparable`` spells them;
            ``None`` where all have one.
        foreground_chosen: whether whoever made the masks has chosen their foreground. If not, the
            rule of the protocol does.
        computation: types of the matrix products, in words; empty where masks are read.
    """

    source: MaskSource
    facts: Mapping[str, str]
    names: Container[str] | None = None
    foreground_chosen: bool = False
    computation: str = ""


def masks_of(predictor: Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Mask]]) -> MaskSource:
    """Take the masks of a predictor, from images of any sizes to a mask of each."""
    return lambda images, protocol: list(predictor([framed.image for framed in images]))


def network_origin(source: Path, **options: Any) -> Origin:
    """Load the network whose fine masks are scored; see ``load_segmenter`` for the options."""
    segmenter = load_segmenter(source, **options)
    network = segmenter.network
    facts = {
        "masks": f"fine mask of the {network.origin}",
        "backbone": f"{network.backbone}, {network.computation}",
        **_seen_size(segmenter),
        "devices": describe_devices(),
    }
    return Origin(
        masks_of(segmenter.predictor),
        facts,
        foreground_chosen=network.foreground_chosen,
        computation=segmenter.computation,
    )


def method_origin(method: str, backbone: str | None = None, **options: Any) -> Origin:
    """Set a baseline up, which chooses its foreground itself; see ``load_method_segmenter``."""
    segmenter = load_method_segmenter(method, backbone=backbone, **options)
    decoder, features = options.get("decoder"), options.get("features")
    facts = {"masks": method if decoder is None else f"{method}, decoder {decoder}"}
    if method != PRIORS:
        name = METHOD_BACKBONE if backbone is None else backbone
        facts["backbone"] = f"{name}, {features}" if features else name
    facts |= _seen_size(segmenter)
    return Origin(
        masks_of(segmenter.predictor),
        facts,
        foreground_chosen=True,
        computation=segmenter.computation,
    )


def _seen_size(segmenter: Segmenter) -> dict[str, str]:
    # Rounded to the patch.
    return {"short side seen by the network": f"{segmenter.predictor.input_size(1, 1)[0]} px"}


def saved_origin(folder: Path) -> Origin:
    """Find saved masks of any method; whoever saved them has chosen their foreground.

    Args:
        folder: holds a file for each image, named as the image up to the extension, in an encoding
            that ``sempart_jax.data.images.read_grey`` reads. A mask covers its whole image; one of
            another size is stretched to it.

    Raises:
        FileNotFoundError: if there is no folder or no image in it.
        ValueError: if two files have one name up to the extension, or no mask has foreground.
    """
    paths: dict[str, Path] = {}
    for path in find_images(folder, products=True):
        other = paths.setdefault(comparable(path.stem), path)
        if other != path:
            raise ValueError(f"two masks for one image: {other} and {path}: remove one of them")
    check_foreground(paths.values())

    def read(framed: FramedImage, protocol: Protocol) -> Mask | Failure:
        try:
            path = paths[comparable(framed.name)]
            grey = read_grey(path)
            check_not_turned(path, grey.shape, framed.original_size)
        except UnreadableImageError as error:
            return Failure(str(error))
        mask = protocol.frame(resize(grey, *framed.original_size))
        # A grey photograph; a coloured one is no mask to the reader.
        if np.ptp(mask) and (mask[..., None] == framed.image).all():
            return Failure(f"{paths[framed.name]} is no mask of its image, but the image itself")
        return mask.astype(np.float32) / 255

    return Origin(
        lambda images, protocol: [read(framed, protocol) for framed in images],
        {"masks": f"saved in {folder}"},
        frozenset(paths),
        foreground_chosen=True,
    )
