"""Scores of masks and boxes on labelled data sets, and a report of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import logging

from sempart_jax.data.benchmarks import open_labelled_set
from sempart_jax.data.boxed import BOXED_SETS, open_boxed_set, read_boxes
from sempart_jax.evaluation.evaluator import Evaluator, given_boxes_section
from sempart_jax.evaluation.given_boxes import read_given_boxes
from sempart_jax.evaluation.names import check_names
from sempart_jax.evaluation.origin import Origin
from sempart_jax.evaluation.protocols import PROTOCOLS
from sempart_jax.evaluation.results import (
    Evaluation,
    Examples,
    LocalizationSection,
    SaliencySection,
)
from sempart_jax.postprocessing import POSTPROCESSINGS
from sempart_jax.report.files import write_report


def evaluate(
    origins: Mapping[str, Origin],
    data_root: Path,
    *,
    title: str,
    protocols: Sequence[str] = ("crop320",),
    postprocessings: Sequence[str] = ("none", "guided"),
    foreground_rule: str | None = None,
    extra: bool = False,
    report: Path | None = None,
) -> Evaluation:
    """Score masks on data sets, and write a report of it.

    Args:
        origins: where the masks of each data set come from, by names that ``open_labelled_set`` or
            ``open_boxed_set`` knows.
        data_root: folder that holds the data sets.
        title: what is scored, in a few words.
        protocols: names of protocols for the data sets of masks; boxes are scored on whole images.
        postprocessings: names of post-processings, each scored.
        foreground_rule: rule under all protocols. ``None`` takes that of each protocol, and leaves
            masks as they are whose origin has chosen their foreground: saved ones and baselines'.
        extra: whether to add weighted F, S- and E-measure, which need PySODMetrics.
        report: folder for the report (``report.html``, ``results.json``, ``tables.md``,
            ``per_image.csv``); ``None`` writes nothing.

    Returns:
        The scores of each data set of masks under each protocol, and of each data set of boxes.

    Raises:
        FileNotFoundError: if a data set is missing.
        ModuleNotFoundError: if ``extra`` scores are wanted and PySODMetrics is not installed.
        ValueError: if a name is unknown, or no image of a set can be scored.
    """
    check_names("protocol", protocols, PROTOCOLS)
    check_names("post-processing", postprocessings, POSTPROCESSINGS)
    started = time.monotonic()
    # All are opened before the first is scored: what is missing shows at once.
    boxed = {name: open_boxed_set(name, data_root) for name in origins if name in BOXED_SETS}
    labelled = {name: open_labelled_set(name, data_root) for name in origins if name not in boxed}
    for name, found in labelled.items():
        warn_of_subset(name, len(found), found.published_images)
    for name, boxes in boxed.items():
        warn_of_subset(name, len(boxes.paths), len(boxes.boxes))
    evaluator = Evaluator(
        postprocessings=postprocessings,
        foreground_rule=foreground_rule,
        extra=extra,
    )
    saliency: list[SaliencySection] = []
    finders: list[Callable[[], Examples]] = []
    localization: list[LocalizationSection] = []
    for name, origin in origins.items():
        if name in boxed:
            localization.append(evaluator.localization(name, boxed[name], origin))
            continue
        for protocol in protocols:
            section, finder = evaluator.saliency(name, labelled[name], origin, PROTOCOLS[protocol])
            saliency.append(section)
            finders.append(finder)
    evaluation = Evaluation(
        title=title,
        facts=_common_facts(origins),
        saliency=tuple(saliency),
        localization=tuple(localization),
        seconds={**evaluator.seconds, "total": time.monotonic() - started},
        left_out=tuple(evaluator.left_out),
    )
    if report is not None:
        write_report(evaluation, [finder() for finder in finders], report)
    return evaluation


def evaluate_boxes(
    boxes: Path, dataset: str, data_root: Path, *, report: Path | None = None
) -> Evaluation:
    """Score given boxes by CorLoc on all annotated images of a data set.

    Args:
        boxes: JSON file of the boxes, see ``read_given_boxes``.
        dataset: one of ``BOXED_SETS``.
        data_root: folder that holds the data set; its images are not needed.
        report: folder for the report, which is written as by :func:`evaluate`; ``None`` writes
            nothing.

    Returns:
        The CorLoc of the boxes.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a name is unknown or a file is damaged.
    """
    check_names("data set of boxes", [dataset], BOXED_SETS)
    started = time.monotonic()
    predicted = read_given_boxes(boxes)
    section = given_boxes_section(dataset, predicted, read_boxes(dataset, data_root))
    evaluation = Evaluation(
        title=f"boxes of {boxes}",
        facts={"boxes": str(boxes)},
        saliency=(),
        localization=(section,),
        seconds={"total": time.monotonic() - started},
        left_out=(),
    )
    if report is not None:
        write_report(evaluation, [], report)
    return evaluation


def warn_of_subset(dataset: str, images: int, published: int | None) -> None:
    """Say that a data set is not the whole one, with both numbers."""
    if published is not None and images != published:
        logging.warning(
            "%s: %d images are there, %d are published: scores are of another set of images "
            "than published ones",
            dataset,
            images,
            published,
        )


def _common_facts(origins: Mapping[str, Origin]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for dataset, origin in origins.items():
        for label, value in origin.facts.items():
            shared = all(other.facts.get(label) == value for other in origins.values())
            facts[label if shared else f"{label}, {dataset}"] = value
    return facts
