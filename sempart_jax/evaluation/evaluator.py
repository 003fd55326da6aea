"""Score data sets one after another and sum them up, a section each."""

from collections.abc import Callable, Mapping, Sequence

from absl import logging
from tqdm import tqdm

from sempart_jax.data.boxed import BoxedSet
from sempart_jax.data.labelled import LabelledSet
from sempart_jax.evaluation.box_tally import boxes_by_name, localization_set
from sempart_jax.evaluation.examples import find_examples
from sempart_jax.evaluation.mask_tally import saliency_set
from sempart_jax.evaluation.origin import Origin
from sempart_jax.evaluation.results import Examples, LocalizationSection, SaliencySection
from sempart_jax.evaluation.scored import STAGES, Kind, Scored, ScoredSet
from sempart_jax.evaluation.scoring import score
from sempart_jax.metrics.localization import Box, corloc
from sempart_jax.metrics.protocols import PROTOCOLS, Protocol


class Evaluator:
    """Scores data sets in one way.

    Attributes:
        seconds: wall time by stage so far.
        left_out: images that were not scored and why, a line each.
    """

    def __init__(
        self,
        *,
        postprocessings: Sequence[str],
        foreground_rule: str | None = None,
        extra: bool = False,
    ) -> None:
        """Choose how to score.

        Args:
            postprocessings: names of ``sempart_jax.predict.postprocessing``.
            foreground_rule: rule under all protocols; ``None`` takes that of each protocol, and
                leaves masks as they are whose origin has chosen their foreground.
            extra: whether the further scores of PySODMetrics are wanted.
        """
        self._postprocessings = tuple(postprocessings)
        self._foreground_rule, self._extra = foreground_rule, extra
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.left_out: list[str] = []

    def saliency(
        self, dataset: str, labelled: LabelledSet, origin: Origin, protocol: Protocol
    ) -> tuple[SaliencySection, Callable[[], Examples]]:
        """Score masks against masks.

        Args:
            dataset: name of the data set.
            labelled: the data set.
            origin: where masks come from.
            protocol: what is scored of an image.

        Returns:
            The scores, and what finds the best and worst images when called.

        Raises:
            ValueError: if no image can be scored.
        """
        full_set = saliency_set(labelled, protocol, extra=self._extra)
        scored_set = _with_masks(dataset, full_set, origin)
        scored = self._score(dataset, scored_set, origin, protocol)
        section = SaliencySection(
            dataset=dataset,
            protocol=protocol.name,
            foreground_rule=self._rule(protocol, origin),
            published_images=labelled.published_images,
            names=tuple(scored.names),
            object_sizes=scored.tally.object_size_per_image,
            inverted=scored.inverted_per_image,
            scores=scored.tally.scores,
            extra={name: extra.compute() for name, extra in scored.tally.extra.items()},
        )
        return section, lambda: find_examples(section, scored_set, origin.source, protocol)

    def localization(self, dataset: str, boxed: BoxedSet, origin: Origin) -> LocalizationSection:
        """Score the boxes of masks by CorLoc, on whole images.

        Args:
            dataset: name of the data set.
            boxed: the data set.
            origin: where masks come from.

        Raises:
            ValueError: if no image can be scored, or none of them has an object.
        """
        protocol = PROTOCOLS["native"]
        scored_set = _with_masks(dataset, localization_set(boxed), origin)
        scored = self._score(dataset, scored_set, origin, protocol)
        truth = {name: boxed.boxes[name] for name in scored.names}
        return LocalizationSection(
            dataset=dataset,
            protocol=protocol.name,
            foreground_rule=self._rule(protocol, origin),
            published_images=len(boxed.boxes),
            images=len(scored.names),
            corloc={
                name: corloc(boxes_by_name(scored.names, boxes), truth)
                for name, boxes in scored.tally.boxes.items()
            },
        )

    def _rule(self, protocol: Protocol, origin: Origin) -> str:
        default = "none" if origin.foreground_chosen else protocol.foreground_rule
        return self._foreground_rule or default

    def _score(
        self, dataset: str, scored_set: ScoredSet[Kind], origin: Origin, protocol: Protocol
    ) -> Scored[Kind]:
        with tqdm(
            total=len(scored_set.names), desc=f"{dataset}, {protocol.name}", unit="image"
        ) as bar:
            scored = score(
                scored_set,
                origin.source,
                protocol,
                foreground_rule=self._rule(protocol, origin),
                postprocessings=self._postprocessings,
                advance=bar.update,
            )
        for stage in STAGES:
            self.seconds[stage] += scored.seconds[stage]
        self.left_out += [f"{dataset}, {protocol.name}: {line}" for line in scored.left_out]
        return scored


def given_boxes_section(
    dataset: str,
    predicted: Mapping[str, Box | None],
    ground_truth: Mapping[str, Sequence[Box]],
) -> LocalizationSection:
    """Score given boxes by CorLoc on all annotated images; one without a box counts as wrong.

    Args:
        dataset: name of the data set.
        predicted: box by image id.
        ground_truth: boxes by image id.

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


def _with_masks(dataset: str, scored_set: ScoredSet[Kind], origin: Origin) -> ScoredSet[Kind]:
    if origin.names is None:
        return scored_set
    kept = scored_set.only(origin.names)
    if not kept.names:
        raise ValueError(
            f"{dataset}: none of its {len(scored_set.names)} images has a mask, such as "
            f"{scored_set.names[0]}: a mask has the name of its image up to the extension"
        )
    if len(kept.names) < len(scored_set.names):
        logging.warning(
            "%s: masks for %d of %d images; the others are left out",
            dataset,
            len(kept.names),
            len(scored_set.names),
        )
    return kept
