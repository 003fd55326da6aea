"""Masks against ground-truth masks: what is read of a data set and counted of each image."""

import numpy as np
from jaxtyping import Bool, Float

from sempart_jax.data.image_sizes import check_aspect_ratio
from sempart_jax.data.labelled import LabelledSet
from sempart_jax.evaluation.masks import FramedImage
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.scored import Masks, ScoredSet, Tally
from sempart_jax.metrics.protocols import Protocol, centre_box
from sempart_jax.metrics.saliency import SaliencyScores
from sempart_jax.metrics.sod import SodScores


def saliency_set(
    labelled: LabelledSet, protocol: Protocol, *, extra: bool = False
) -> "ScoredSet[SaliencyTally]":
    """Prepare a labelled data set for scoring.

    Args:
        labelled: images and ground truths.
        protocol: what of them is scored.
        extra: whether the further scores of PySODMetrics are wanted.
    """

    def read(index: int) -> tuple[FramedImage, Bool[np.ndarray, "H W"]]:
        item = labelled[index]
        if protocol.resize_size is not None:
            check_aspect_ratio(item.name, *item.image.shape[:2])
        framed = FramedImage(item.name, protocol.frame(item.image), item.image.shape[:2])
        # Cut once, after the resizing.
        return framed, protocol.frame(item.ground_truth) > 127

    def count(masks: Masks, ground_truth: Bool[np.ndarray, "H W"]) -> SaliencyTally:
        tally = SaliencyTally()
        box = centre_box(*ground_truth.shape)
        tally.add({**masks, CENTRE_BOX: box}, ground_truth, extra=extra)
        return tally

    return ScoredSet(labelled.names, read, count, SaliencyTally, pixels=labelled.pixels)


class SaliencyTally(Tally):
    """Scores against ground-truth masks.

    Attributes:
        object_sizes: fraction of foreground in each ground truth.
        scores: by post-processing, and those of a centre box.
        extra: further scores by post-processing; empty if they were not asked for.
    """

    def __init__(self) -> None:
        self.object_sizes: list[float] = []
        self.scores: dict[str, SaliencyScores] = {}
        self.extra: dict[str, SodScores] = {}

    def add(
        self, masks: Masks, ground_truth: Bool[np.ndarray, "H W"], *, extra: bool = False
    ) -> None:
        """Add one image.

        Args:
            masks: masks by name, of the ground truth's size.
            ground_truth: its mask.
            extra: whether to add the further scores of PySODMetrics.
        """
        self.object_sizes.append(float(ground_truth.mean()))
        for name, mask in masks.items():
            self.scores.setdefault(name, SaliencyScores()).update(mask, ground_truth)
            if extra and name != CENTRE_BOX:
                self.extra.setdefault(name, SodScores()).update(mask, ground_truth)

    def merge(self, other: "SaliencyTally") -> None:
        """Add the images of another tally."""
        self.object_sizes += other.object_sizes
        for name, scores in other.scores.items():
            self.scores.setdefault(name, SaliencyScores()).merge(scores)
        for name, extra in other.extra.items():
            self.extra.setdefault(name, SodScores()).merge(extra)

    @property
    def object_size_per_image(self) -> Float[np.ndarray, " N"]:
        """Fraction of foreground in each ground truth, in [0, 1]."""
        return np.array(self.object_sizes)
