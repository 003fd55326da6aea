"""What an evaluation has found, ready to be printed, written and drawn."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Shaped

from sempart_jax.metrics.saliency import SaliencyResult, SaliencyScores
from sempart_jax.metrics.sod import ExtraScores

CENTRE_BOX = "centre box"
"""Key, beside the post-processings, of a fixed box in the middle: what anybody scores who knows
nothing of an image."""

Validations = dict[int, dict[str, SaliencyResult]]
"""Scores of each kind of mask on the validation set of a training, by step."""


@dataclasses.dataclass(frozen=True, eq=False)
class SaliencySection:
    """Scores of the masks of one data set under one protocol.

    Attributes:
        dataset: name of the data set, such as ``ecssd``.
        protocol: ``crop320`` or ``native``.
        foreground_rule: what decided which side of a mask is foreground.
        published_images: number of images of the whole data set; None where it is not known.
        names: name of each scored image.
        object_sizes: fraction of foreground in each image's ground truth, in [0, 1].
        inverted: whether the foreground rule inverted each image's mask.
        scores: scores by post-processing, and those of :data:`CENTRE_BOX`.
        extra: further scores by the same keys but the box; empty if they were not asked for.
    """

    dataset: str
    protocol: str
    foreground_rule: str
    published_images: int | None
    names: tuple[str, ...]
    object_sizes: Float[np.ndarray, " N"]
    inverted: Bool[np.ndarray, " N"]
    scores: Mapping[str, SaliencyScores]
    extra: Mapping[str, ExtraScores]


@dataclasses.dataclass(frozen=True)
class LocalizationSection:
    """CorLoc on one data set of boxes.

    Attributes:
        dataset: name of the data set, such as ``voc07``.
        protocol: ``native``, or ``boxes`` where boxes were given.
        foreground_rule: what decided which side of a mask is foreground.
        published_images: number of images of the whole data set; None where it is not known.
        images: number of images that were scored.
        corloc: percent of the images with an object whose box is right, by post-processing; for
            given boxes the only key is ``none``.
    """

    dataset: str
    protocol: str
    foreground_rule: str
    published_images: int | None
    images: int
    corloc: Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """All that one call of the evaluation has found.

    Attributes:
        title: what was scored, in a few words.
        facts: label and value of what a reader needs to repeat it: run, step, backbone, versions.
        saliency: a section for each data set of masks and protocol.
        localization: a section for each data set of boxes.
        seconds: wall time by stage: ``scoring.STAGES``, and ``total``.
        left_out: what was not scored and why, a line each.
    """

    title: str
    facts: Mapping[str, str]
    saliency: tuple[SaliencySection, ...]
    localization: tuple[LocalizationSection, ...]
    seconds: Mapping[str, float]
    left_out: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image of a data set and its masks, to look at.

    Attributes:
        name: name of the image.
        object_size: fraction of foreground in its ground truth.
        pictures: ``image`` (uint8 RGB ``[H, W, 3]``), ``ground truth`` and, by the keys of
            ``iou``, the mask of each post-processing (float ``[H, W]`` in [0, 1]).
        iou: intersection over union by post-processing, NaN where it is not defined.
    """

    name: str
    object_size: float
    pictures: Mapping[str, Shaped[np.ndarray, "H W *C"]]
    iou: Mapping[str, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The best images of one section, from the best down, and the worst, from the worst up.

    ``chosen_by`` is the post-processing whose IoU chose them.
    """

    dataset: str
    protocol: str
    chosen_by: str
    best: tuple[Example, ...]
    worst: tuple[Example, ...]
