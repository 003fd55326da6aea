r"""Score masks on labelled data sets: those of a trained run, or saved masks of any method.

    python -m sempart_jax.evaluate --workdir runs/tricks --data_root data \
        --datasets duts_te,ecssd,voc07 --protocols crop320,native \
        --postprocessings none,guided,bilateral --report reports/tricks

Data sets of masks (duts_te, duts_tr, dut_omron, ecssd) are scored by accuracy, IoU and max F under
each protocol, data sets of boxes (voc07, voc12, coco20k) by CorLoc on whole images. A table is
printed, and a report is written.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.boxed import BOXED_SETS
from sempart_jax.data.folder import image_folder
from sempart_jax.host import command_line
from sempart_jax.metrics.protocols import FOREGROUND_RULES, PROTOCOLS
from sempart_jax.predict.options import (
    check_method,
    define_method_flags,
    define_network_flags,
    given_flags,
)
from sempart_jax.predict.postprocessing import POSTPROCESSINGS
from sempart_jax.runs.source import find_source

if TYPE_CHECKING:
    from sempart_jax.evaluation.origin import Origin
    from sempart_jax.evaluation.results import Evaluation, LocalizationSection, SaliencySection

_KINDS = ("workdir", "method", "predictions", "boxes")
"""Flags of which one says what is scored."""
_NETWORKS, _MASKS = _KINDS[:2], _KINDS[:3]
_APPLIES_TO: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("decoder", "features"), ("method",)),
    **dict.fromkeys(("backbone", "weights", "resolution", "batch_size"), _NETWORKS),
    **dict.fromkeys(("protocols", "postprocessings", "foreground_rule", "extra_metrics"), _MASKS),
}
"""Flags that not all that can be scored has a use for, and what has."""


def define_flags() -> None:
    """Define the flags, as the program does: who imports this module has flags of its own."""
    define_network_flags(
        "Network to score: a run's directory, a checkpoint, a model file, a released head, or "
        "builtin."
    )
    define_method_flags()
    flags.DEFINE_string(
        "predictions",
        None,
        "Folder of saved masks to score; with several data sets, one subfolder for each.",
    )
    flags.DEFINE_string("boxes", None, "JSON file of boxes to score, for one data set.")
    flags.DEFINE_list("datasets", ["duts_te", "ecssd"], "Data sets to score on.")
    flags.DEFINE_string("data_root", "data", "Folder that holds the data sets.")
    flags.DEFINE_string(
        "report", None, "Folder for the report. Default for a run: WORKDIR/evaluation."
    )
    flags.DEFINE_integer("batch_size", None, "Images per batch (default: 8).", lower_bound=1)
    flags.DEFINE_list("protocols", None, f"Any of {', '.join(PROTOCOLS)} (default: crop320).")
    flags.DEFINE_list(
        "postprocessings", None, f"Any of {', '.join(POSTPROCESSINGS)} (default: none,guided)."
    )
    flags.DEFINE_enum(
        "foreground_rule",
        None,
        FOREGROUND_RULES,
        "How to choose the foreground: by the mean of a batch, of each image, or not at all. "
        "Default: that of the protocol; none for --method, --predictions, and networks that know.",
    )
    flags.DEFINE_bool(
        "extra_metrics", None, "Add weighted F, S- and E-measure; needs the extra [metrics]."
    )


def evaluate(
    origins: "Mapping[str, Origin]",
    data_root: Path,
    *,
    title: str,
    protocols: Sequence[str] = ("crop320",),
    postprocessings: Sequence[str] = ("none", "guided"),
    foreground_rule: str | None = None,
    extra: bool = False,
    report: Path | None = None,
) -> "Evaluation":
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
    # Not above: what is mistyped is told before JAX and what computes with it are imported.
    from sempart_jax.data.benchmarks import open_labelled_set
    from sempart_jax.data.boxed import open_boxed_set
    from sempart_jax.evaluation.examples import find_examples
    from sempart_jax.evaluation.results import Evaluation
    from sempart_jax.evaluation.scoring import Scorer
    from sempart_jax.evaluation.sections import localization_section, saliency_section
    from sempart_jax.report.files import write_report

    check_names("protocol", protocols, PROTOCOLS)
    check_names("post-processing", postprocessings, POSTPROCESSINGS)
    started = time.monotonic()
    # All are opened before the first is scored: what is missing shows at once.
    boxed = {name: open_boxed_set(name, data_root) for name in origins if name in BOXED_SETS}
    labelled = {name: open_labelled_set(name, data_root) for name in origins if name not in boxed}
    for name, found in labelled.items():
        _warn_of_subset(name, len(found), found.published_images)
    for name, boxes in boxed.items():
        _warn_of_subset(name, len(boxes.paths), len(boxes.boxes))
    scorer = Scorer(postprocessings, foreground_rule, extra)
    saliency: list[SaliencySection] = []
    localization: list[LocalizationSection] = []
    for name, origin in origins.items():
        if name in boxed:
            localization.append(localization_section(scorer, name, boxed[name], origin))
            continue
        saliency += [
            saliency_section(scorer, name, labelled[name], origin, PROTOCOLS[protocol])
            for protocol in protocols
        ]
    evaluation = Evaluation(
        title=title,
        facts=_common_facts(origins),
        saliency=tuple(saliency),
        localization=tuple(localization),
        seconds={**scorer.seconds, "total": time.monotonic() - started},
        left_out=tuple(scorer.left_out),
    )
    if report is not None:
        examples = [
            find_examples(
                section,
                labelled[section.dataset],
                origins[section.dataset],
                PROTOCOLS[section.protocol],
            )
            for section in saliency
        ]
        write_report(evaluation, examples, report)
    return evaluation


def evaluate_boxes(
    boxes: Path, dataset: str, data_root: Path, *, report: Path | None = None
) -> "Evaluation":
    """Score given boxes by CorLoc on all annotated images of a data set, as :func:`evaluate` does.

    Args:
        boxes: JSON file of the boxes, see :func:`read_given_boxes`.
        dataset: one of ``BOXED_SETS``.
        data_root: folder that holds the data set; its images are not needed.
        report: folder for the report; ``None`` writes nothing.
    """
    from sempart_jax.data.boxed import read_boxes
    from sempart_jax.evaluation.results import Evaluation
    from sempart_jax.evaluation.sections import given_boxes_section
    from sempart_jax.report.files import write_report

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


def read_given_boxes(path: Path) -> dict[str, list[int | float] | None]:
    """Read one box for each image.

    Args:
        path: JSON object of image id to ``[x_min, y_min, x_max, y_max]`` in pixels from 0, ends
            exclusive, or to null where nothing was found.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no such object, or a box is not four numbers; names the image.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"box file {path} does not exist") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object of image ids and boxes")
    for name, box in content.items():
        numbers = isinstance(box, list) and [type(value) in (int, float) for value in box]
        if box is not None and numbers != [True] * 4:
            raise ValueError(
                f"{path}: the box of {name} must be [x_min, y_min, x_max, y_max] or null, "
                f"got {box!r}"
            )
    return content


def check_names(
    kind: str, names: Sequence[str], known: Sequence[str] | Mapping[str, object]
) -> None:
    """Refuse names that are unknown or given twice, and none at all, by a ValueError."""
    if not names:
        raise ValueError(f"no {kind} given: choose among {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: choose among {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"{kind} {name} is given twice")


def _warn_of_subset(dataset: str, images: int, published: int | None) -> None:
    if published is not None and images != published:
        logging.warning(
            "%s: found %d images, the published set has %d: do not compare these scores with "
            "published ones",
            dataset,
            images,
            published,
        )


def _common_facts(origins: "Mapping[str, Origin]") -> dict[str, str]:
    facts: dict[str, str] = {}
    for dataset, origin in origins.items():
        for label, value in origin.facts.items():
            shared = all(other.facts.get(label) == value for other in origins.values())
            facts[label if shared else f"{label}, {dataset}"] = value
    return facts


def _main() -> None:
    given = flags.FLAGS
    check_names("data set", given.datasets, [*BENCHMARKS, *BOXED_SETS])
    scored = _scored()
    if scored == "workdir":
        find_source(given.workdir)
    elif scored == "method":
        check_method(given.method, **given_flags("backbone", "decoder", "weights", "features"))
    elif scored == "predictions":
        for dataset in given.datasets:
            image_folder(_saved_folder(dataset))
    else:
        if len(given.datasets) != 1:
            names = ",".join(given.datasets)
            raise ValueError(f"--boxes takes exactly one data set, got --datasets={names}")
        read_given_boxes(Path(given.boxes))
    if given.protocols is not None:
        check_names("protocol", given.protocols, PROTOCOLS)
    if given.postprocessings is not None:
        check_names("post-processing", given.postprocessings, POSTPROCESSINGS)
    _evaluate(scored)


def _evaluate(scored: str) -> None:
    # What is mistyped has been told before JAX and what computes with it are imported.
    from sempart_jax.evaluation.origin import method_origin, network_origin, saved_origin
    from sempart_jax.host.compilation_cache import enable_compilation_cache
    from sempart_jax.host.devices import check_gpu, tell_devices
    from sempart_jax.report.text import format_evaluation

    enable_compilation_cache()
    given = flags.FLAGS
    check_gpu(given.require_gpu)
    data_root, datasets = Path(given.data_root), given.datasets
    report = None if given.report is None else Path(given.report)
    if scored == "boxes":
        evaluation = evaluate_boxes(Path(given.boxes), datasets[0], data_root, report=report)
    else:
        if scored == "workdir":
            workdir = find_source(given.workdir)
            if report is None and (workdir / "config.json").is_file():
                report = workdir / "evaluation"
            origins = dict.fromkeys(datasets, network_origin(workdir, **_network_options()))
            title = f"run {Path(given.workdir)}"
        elif scored == "method":
            origin = method_origin(given.method, **_network_options("decoder", "features"))
            origins = dict.fromkeys(datasets, origin)
            title = ", ".join(filter(None, [given.method, origin.facts.get("backbone")]))
        else:
            origins = {name: saved_origin(_saved_folder(name)) for name in datasets}
            title = f"masks in {Path(given.predictions)}"
        options = given_flags("protocols", "postprocessings", "foreground_rule")
        if computation := origins[datasets[0]].computation:
            tell_devices(computation)
        extra = bool(given.extra_metrics)
        evaluation = evaluate(
            origins, data_root, title=title, extra=extra, report=report, **options
        )
    print(format_evaluation(evaluation))
    if report is not None:
        print(f"report: {report}/report.html")


def _scored() -> str:
    """Say which flag names what is scored, and refuse those that do not apply to it."""
    named = list(given_flags(*_KINDS))
    if len(named) != 1:
        choice = ", ".join(f"--{name}" for name in _KINDS)
        raise ValueError(f"say what to score: give exactly one of {choice}")
    (scored,) = named
    for name in given_flags(*_APPLIES_TO):
        if scored not in _APPLIES_TO[name]:
            others = " or ".join(f"--{other}" for other in _APPLIES_TO[name])
            raise ValueError(
                f"--{name} does not apply to --{scored}: use it with {others}, or leave it out"
            )
    return scored


def _network_options(*more: str) -> dict[str, Any]:
    return given_flags("backbone", "weights", "batch_size", "resolution", *more)


def _saved_folder(dataset: str) -> Path:
    """Return the folder of a data set's masks: that of its name, or of a single one the whole."""
    folder = Path(flags.FLAGS.predictions)
    own = folder / dataset
    if len(flags.FLAGS.datasets) > 1 and not own.is_dir():
        raise FileNotFoundError(
            f"no folder {own}: with several data sets, put the masks of each into a subfolder of "
            "that name"
        )
    return own if own.is_dir() else folder


if __name__ == "__main__":
    define_flags()
    command_line.run(_main)
