r"""Score masks on labelled data sets: those of a trained run, or saved ones of any method.

    python -m sempart_jax.evaluate --workdir runs/tricks --data_root data \
        --datasets duts_te,ecssd,voc07 --protocols crop320,native \
        --postprocessings none,guided,bilateral --report reports/tricks

Data sets of masks (duts_te, duts_tr, dut_omron, ecssd) are scored by accuracy, IoU and max F under
each protocol, data sets of boxes (voc07, voc12, coco20k) by CorLoc on whole images. Prints a table
and writes a report. Started again after an interruption, the same command continues.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import flags, logging

from sempart_jax import command_line
from sempart_jax.baselines.methods import METHODS
from sempart_jax.data.benchmarks import BENCHMARKS, open_labelled_set
from sempart_jax.data.boxed import BOXED_SETS, open_boxed_set, read_boxes
from sempart_jax.evaluation.evaluator import Evaluator, given_boxes_section
from sempart_jax.evaluation.given_boxes import read_given_boxes
from sempart_jax.evaluation.origin import Origin, method_origin, network_origin, saved_origin
from sempart_jax.evaluation.protocols import FOREGROUND_RULES, PROTOCOLS
from sempart_jax.evaluation.results import (
    Evaluation,
    Examples,
    LocalizationSection,
    SaliencySection,
)
from sempart_jax.method_predictor import SHORT_SIDE
from sempart_jax.postprocessing import POSTPROCESSINGS
from sempart_jax.report.files import write_report
from sempart_jax.report.tables import format_evaluation

PARTS = "parts"
"""Folder of finished parts in the report's."""


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
        foreground_rule: rule under all protocols; ``None`` takes that of each protocol.
        extra: whether to add weighted F, S- and E-measure, which need PySODMetrics.
        report: folder for the report and for finished parts; ``None`` writes neither.

    Raises:
        FileNotFoundError: if a data set is missing.
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
        kept_in=None if report is None else report / PARTS,
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
        seconds={
            **evaluator.seconds,
            "total": time.monotonic() - started + evaluator.seconds_before,
        },
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
        report: folder for the report, or ``None``.

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


def check_names(
    kind: str, names: Sequence[str], known: Sequence[str] | Mapping[str, object]
) -> None:
    """Refuse names that are unknown or given twice, and none at all.

    Args:
        kind: what is named, for the message.
        names: the names.
        known: those that there are.

    Raises:
        ValueError: as said.
    """
    if not names:
        raise ValueError(f"no {kind} is named: choose among {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: choose among {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"{kind} {name} is named twice")


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


_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of a run, a checkpoint or a model file, whose masks are scored."
)
_METHOD = flags.DEFINE_enum(
    "method", None, list(METHODS), "A baseline over --backbone, whose masks are scored."
)
_BACKBONE = flags.DEFINE_string("backbone", "dino_vits8", "Backbone of --method.")
_DECODER = flags.DEFINE_string("decoder", None, "File of FOUND's decoder, for its methods.")
_RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "Short side in pixels at which the network of --workdir or the backbone of --method sees an "
    f"image; by default that of its training, and {SHORT_SIDE} with --method.",
    lower_bound=1,
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "Folder of saved masks, a file an image; with a folder a data set in it."
)
_BOXES = flags.DEFINE_string("boxes", None, "JSON file of boxes, by image id, of one data set.")
_DATASETS = flags.DEFINE_list("datasets", ["duts_te", "ecssd"], "Names of data sets.")
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "Folder that holds the data sets.")
_PROTOCOLS = flags.DEFINE_list("protocols", ["crop320"], f"Among {', '.join(PROTOCOLS)}.")
_POSTPROCESSINGS = flags.DEFINE_list(
    "postprocessings", ["none", "guided"], f"Among {', '.join(POSTPROCESSINGS)}."
)
_FOREGROUND_RULE = flags.DEFINE_enum(
    "foreground_rule",
    None,
    FOREGROUND_RULES,
    "Which masks are inverted. By default as the protocol says; saved masks are left as they are.",
)
_EXTRA_METRICS = flags.DEFINE_bool(
    "extra_metrics", False, "Add weighted F, S- and E-measure; needs the extra [metrics]."
)
_REPORT = flags.DEFINE_string(
    "report", None, "Folder for the report; for a run, WORKDIR/evaluation by default."
)
_WEIGHTS = flags.DEFINE_string("weights", None, "File of the backbone's weights, if it has moved.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images predicted together.", lower_bound=1)


def _main() -> None:
    workdir, predictions, boxes, report = (
        None if flag.value is None else Path(flag.value)
        for flag in (_WORKDIR, _PREDICTIONS, _BOXES, _REPORT)
    )
    data_root, datasets = Path(_DATA_ROOT.value), _DATASETS.value
    check_names("data set", datasets, [*BENCHMARKS, *BOXED_SETS])
    given = [each for each in (workdir, _METHOD.value, predictions, boxes) if each is not None]
    if len(given) != 1:
        raise ValueError(
            "give one of --workdir, --method, --predictions, --boxes: what is to be scored"
        )
    if _DECODER.value is not None and _METHOD.value is None:
        raise ValueError("--decoder is FOUND's: give --method=found_multi or found_single with it")
    if boxes is not None:
        if len(datasets) != 1:
            raise ValueError(f"--boxes are of one data set, got --datasets={','.join(datasets)}")
        evaluation = evaluate_boxes(boxes, datasets[0], data_root, report=report)
    else:
        rule = _FOREGROUND_RULE.value
        if workdir is not None:
            origin = network_origin(
                workdir,
                weights=_WEIGHTS.value,
                short_side=_RESOLUTION.value,
                batch_size=_BATCH_SIZE.value,
            )
            origins, title = dict.fromkeys(datasets, origin), f"run {workdir}"
            if (workdir / "config.json").is_file():
                report = report or workdir / "evaluation"
        else:
            if predictions is not None:
                title = f"masks in {predictions}"
                origins = {
                    name: _saved_origin(predictions, name, len(datasets)) for name in datasets
                }
            else:
                title = f"{_METHOD.value}, {_BACKBONE.value}"
                origins = dict.fromkeys(datasets, _method_origin())
            # A baseline, or whoever saved the masks, has chosen their foreground.
            rule = rule or "none"
        evaluation = evaluate(
            origins,
            data_root,
            title=title,
            protocols=_PROTOCOLS.value,
            postprocessings=_POSTPROCESSINGS.value,
            foreground_rule=rule,
            extra=_EXTRA_METRICS.value,
            report=report,
        )
    print(format_evaluation(evaluation))
    if report is not None:
        print(f"the report is in {report}/report.html")


def _method_origin() -> Origin:
    return method_origin(
        _METHOD.value or "",
        _BACKBONE.value,
        weights=_WEIGHTS.value,
        decoder=_DECODER.value,
        short_side=_RESOLUTION.value or SHORT_SIDE,
        batch_size=_BATCH_SIZE.value,
    )


def _saved_origin(folder: Path, dataset: str, count: int) -> Origin:
    """Take the masks of a data set from the folder of its name, or of a single one from all."""
    own = folder / dataset
    if count > 1 and not own.is_dir():
        raise FileNotFoundError(
            f"no folder {own}: with several data sets, put the masks of each into a folder of "
            "its name"
        )
    return saved_origin(own if own.is_dir() else folder)


if __name__ == "__main__":
    command_line.run(_main)
