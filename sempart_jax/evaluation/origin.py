"""Whose masks are scored: a trained run's, a method's, or saved ones."""

import dataclasses
import os
from collections.abc import Container, Mapping
from pathlib import Path

import jax

from sempart_jax.evaluation.masks import MaskSource, NetworkMasks, SavedMasks
from sempart_jax.predict.load import load_method_segmenter, load_segmenter
from sempart_jax.predict.options import METHOD_SHORT_SIDE


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where masks come from.

    Attributes:
        source: gives the masks.
        facts: label and value of what a reader wants to know of them.
        names: of the images that there are masks of; ``None`` where all have one.
        foreground_chosen: whether whoever made the masks has chosen their foreground. If not, the
            rule of the protocol does.
    """

    source: MaskSource
    facts: Mapping[str, str]
    names: Container[str] | None = None
    foreground_chosen: bool = False


def network_origin(
    source: Path,
    *,
    backbone: str | None = None,
    weights: str | None = None,
    short_side: int | None = None,
    batch_size: int = 8,
) -> Origin:
    """Load the network whose fine masks are scored.

    Args:
        source: see ``sempart_jax.load_segmenter``.
        backbone: name of the backbone that a released head was trained on; runs and model files
            know theirs.
        weights: file of the backbone's weights, where it is not where the run found it.
        short_side: short side in pixels at which the network sees an image; that of its training
            if None.
        batch_size: images that are processed together.

    Raises:
        FileNotFoundError: if there is no such source or file of weights.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if it is damaged or no network, or the backbone is another or must be told.
    """
    segmenter = load_segmenter(
        source, backbone=backbone, weights=weights, resolution=short_side, batch_size=batch_size
    )
    network, predictor = segmenter.network, segmenter.predictor
    facts = {
        "masks": f"fine mask of the {network.origin}",
        "backbone": f"{network.backbone}, {network.computation}",
        "short side seen by the network": f"{predictor.short_side} px",
        "devices": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
    }
    return Origin(NetworkMasks(predictor), facts)


def method_origin(
    method: str,
    backbone: str = "dino_vits8",
    *,
    weights: str | None = None,
    decoder: str | os.PathLike[str] | None = None,
    short_side: int = METHOD_SHORT_SIDE,
    batch_size: int = 8,
) -> Origin:
    """Set a baseline up over a backbone; it chooses its foreground itself.

    Args:
        method: one of ``baselines.by_name.METHODS``.
        backbone: name of the backbone.
        weights: file of its weights; downloaded by name if None.
        decoder: file of FOUND's decoder, for the methods of that name.
        short_side: short side in pixels at which the backbone sees an image.
        batch_size: images that are processed together.

    Raises:
        FileNotFoundError: if a file of weights cannot be had.
        ModuleNotFoundError: if a PyTorch file is to be read, and PyTorch is not installed.
        ValueError: if a name is unknown, the method does not go with the backbone, or a file holds
            no weights or no decoder for it.
    """
    segmenter = load_method_segmenter(
        method,
        backbone=backbone,
        weights=weights,
        decoder=decoder,
        resolution=short_side,
        batch_size=batch_size,
    )
    facts = {
        "masks": method if decoder is None else f"{method}, decoder {decoder}",
        "backbone": backbone,
        "short side seen by the network": f"{short_side} px",
    }
    return Origin(NetworkMasks(segmenter.predictor), facts, foreground_chosen=True)


def saved_origin(folder: Path) -> Origin:
    """Find saved masks; whoever saved them has chosen their foreground.

    Args:
        folder: see ``SavedMasks``.

    Raises:
        FileNotFoundError: if there is no folder or no image in it.
        ValueError: if two files have one name up to the extension.
    """
    source = SavedMasks(folder)
    facts = {"masks": f"saved in {folder}"}
    return Origin(source, facts, frozenset(source.paths), foreground_chosen=True)
