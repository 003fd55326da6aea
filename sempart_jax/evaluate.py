r"""Score masks on labelled data sets: those of a trained run, or saved ones of any method.

    python -m sempart_jax.evaluate --workdir runs/tricks --data_root data \
        --datasets duts_te,ecssd,voc07 --protocols crop320,native \
        --postprocessings none,guided,bilateral --report reports/tricks

Data sets of masks (duts_te, duts_tr, dut_omron, ecssd) are scored by accuracy, IoU and max F under
each protocol, data sets of boxes (voc07, voc12, coco20k) by CorLoc on whole images. Prints a table
and writes a report. Started again after an interruption, the same command continues.
"""

from pathlib import Path

from absl import flags

from sempart_jax import command_line
from sempart_jax.baselines.methods import METHODS
from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.boxed import BOXED_SETS
from sempart_jax.dataset_evaluation import check_names, evaluate, evaluate_boxes
from sempart_jax.evaluation.origin import Origin, method_origin, network_origin, saved_origin
from sempart_jax.evaluation.protocols import FOREGROUND_RULES, PROTOCOLS
from sempart_jax.method_predictor import SHORT_SIDE
from sempart_jax.postprocessing import POSTPROCESSINGS
from sempart_jax.report.tables import format_evaluation

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
