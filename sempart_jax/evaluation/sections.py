"""Sections of an evaluation: masks against masks, and boxes against boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool, Float

from sempart_jax.data.boxed import BoxedSet
from sempart_jax.data.image_sizes import check_aspect_ratio
from sempart_jax.data.images import count_pixels
from sempart_jax.data.labelled import LabelledSet
from sempart_jax.evaluation.origin import FramedImage, Origin
from sempart_jax.evaluation.results import CENTRE_BOX, LocalizationSection, SaliencySection
from sempart_jax.evaluation.scoring import Masks, ScoredSet, Scorer
from sempart_jax.metrics.localization import Box, corloc, largest_box
from sempart_jax.metrics.protocols import PROTOCOLS, Protocol, centre_box
from sempart_jax.metrics.saliency import SaliencyScores
from sempart_jax.metrics.sod import average, sod_scores


def labelled_images(labelled: LabelledSet, protocol: Protocol, *, extra: bool = False) -> ScoredSet:
    """Prepare a labelled data set; measured are object size, scores and ``extra`` scores."""

    def read(index: int) -> tuple[FramedImage, Bool[np.ndarray, "H W"]]:
        item = labelled[index]
        if protocol.resize_size is not None:
            check_aspect_ratio(item.name, *item.image.shape[:2])
        framed = FramedImage(item.name, protocol.frame(item.image), item.image.shape[:2])
        # Cut once, after the resizing.
        return framed, protocol.frame(item.ground_truth) > 127

    def measure(
        masks: Masks, truth: Bool[np.ndarray, "H W"]
    ) -> tuple[float, dict[str, SaliencyScores], dict[str, Float[np.ndarray, "259"]]]:
        with_box = {**masks, CENTRE_BOX: centre_box(*truth.shape)}
        scores = {name: SaliencyScores() for name in with_box}
        for name, mask in with_box.items():
            scores[name].update(mask, truth)
        further = {name: sod_scores(mask, truth) for name, mask in masks.items() if extra}
        return float(truth.mean()), scores, further

    return ScoredSet(labelled.names, labelled.pixels, read, measure)


def saliency_section(
    scorer: Scorer, dataset: str, labelled: LabelledSet, origin: Origin, protocol: Protocol
) -> SaliencySection:
    """Score masks against masks.

    Raises:
        ValueError: if no image can be scored, or no ground truth has foreground.
    """
    names: list[str] = []
    inverted: list[bool] = []
    sizes: list[float] = []
    scores: dict[str, SaliencyScores] = {}
    extra: dict[str, list[np.ndarray]] = {}
    images = labelled_images(labelled, protocol, extra=scorer.extra)
    for image in scorer.score(dataset, images, origin, protocol):
        names.append(image.name)
        inverted.append(image.inverted)
        size, measured, further = image.measured
        sizes.append(size)
        for key, one in measured.items():
            scores.setdefault(key, SaliencyScores()).merge(one)
        for key, more in further.items():
            extra.setdefault(key, []).append(more)
    if not any(sizes):
        raise ValueError(
            f"{dataset}, {protocol.name}: none of {len(names)} ground truths has foreground, such "
            f"as that of {names[0]}: foreground is white, above half of the range of grey levels"
        )
    return SaliencySection(
        dataset=dataset,
        protocol=protocol.name,
        foreground_rule=scorer.rule(protocol, origin),
        published_images=labelled.published_images,
        names=tuple(names),
        object_sizes=np.array(sizes),
        inverted=np.array(inverted, bool),
        scores=scores,
        extra={key: average(more) for key, more in extra.items()},
    )


def localization_section(
    scorer: Scorer, dataset: str, boxed: BoxedSet, origin: Origin
) -> LocalizationSection:
    """Score the boxes of masks by CorLoc, on whole images.

    Raises:
        ValueError: if no image can be scored, or none of them has an object.
    """
    paths = list(boxed.paths.values())
    ids = list(boxed.paths)

    def read(index: int) -> tuple[FramedImage, None]:
        image = boxed.read(ids[index])
        return FramedImage(ids[index], image, image.shape[:2]), None

    def measure(masks: Masks, truth: Any) -> dict[str, tuple[int, int, int, int] | None]:
        box = centre_box(*next(iter(masks.values())).shape)
        return {name: largest_box(mask) for name, mask in {**masks, CENTRE_BOX: box}.items()}

    images = ScoredSet(ids, lambda index: count_pixels(paths[index]), read, measure)
    protocol = PROTOCOLS["native"]
    scored = list(scorer.score(dataset, images, origin, protocol))
    truth = {image.name: boxed.boxes[image.name] for image in scored}
    return LocalizationSection(
        dataset=dataset,
        protocol=protocol.name,
        foreground_rule=scorer.rule(protocol, origin),
        published_images=len(boxed.boxes),
        images=len(scored),
        corloc={
            key: corloc({image.name: image.measured[key] for image in scored}, truth)
            for key in scored[0].measured
        },
    )


def given_boxes_section(
    dataset: str, predicted: Mapping[str, Box | None], ground_truth: Mapping[str, Sequence[Box]]
) -> LocalizationSection:
    """Score given boxes by CorLoc on all annotated images; one without a box counts as wrong.

    Raises:
        ValueError: if a box is of no image of the data set, or is no box.
    """
    absent = sum(name not in predicted for name in ground_truth)
    if absent:
        logging.warning(
            "%s: boxes for %d of %d images; an image without one counts as wrong",
            dataset,
            len(ground_truth) - absent,
            len(ground_truth),
        )
    return LocalizationSection(
        dataset=dataset,
        protocol="boxes",
        foreground_rule="none",
        published_images=len(ground_truth),
        images=len(ground_truth),
        corloc={"none": corloc(predicted, ground_truth)},
    )
