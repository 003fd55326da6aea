r"""Make Tables 1 to 5 of the paper (arXiv 2404.03392): train, score, and print ours beside them.

    python scripts/reproduce_tables.py --data_root data --out runs/tables \
        --weights ibot_vits16=checkpoint_teacher.pth --predictions masks --boxes boxes

Each of ROWS is trained, if need be, in OUT/ROW and scored on each data set. Masks in
PREDICTIONS/ROW/DATASET/*.png and boxes in BOXES/ROW/DATASET.json are scored in place of it.

The same command goes on where it was stopped. What is finished is not done again, whatever the
flags say now: remove OUT/ROW to have it done anew. The tables are printed and written to
OUT/tables.md. --dry_run shows the commands.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sempart_jax.data.benchmarks import open_labelled_set
from sempart_jax.data.boxed import BOXED_SETS, open_boxed_set
from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.command_line import expand_home
from sempart_jax.host.folder_lock import locked
from sempart_jax.networks.names import BACKBONES, RANDOM_WEIGHTS
from sempart_jax.networks.pretrained import HUB_REPOSITORIES
from sempart_jax.report import published
from sempart_jax.report.published import PublishedRow
from sempart_jax.report.tables import MISSING, OTHER_F_MARK, Table, count, title
from sempart_jax.report.text import markdown_table
from sempart_jax.runs.run_record import is_complete

TITLES = {
    1: "Unsupervised saliency segmentation",
    2: "Single object detection, CorLoc",
    3: "Tricks and backbones, IoU",
    4: "Tricks in single object detection, CorLoc",
    5: "Guided filter on masks of other methods",
}
NOTES = (
    f"The difference is ours minus published; {MISSING} stands where there is none. Where ours is "
    "of a part of the images, it is not of the method alone.",
    "Published by authors: carried over from the method's own paper, whose protocol may differ; "
    "most score whole images at their own size (native).",
    f"{OTHER_F_MARK}: beta² = 0.09 and each image's own maximum; else beta² = 0.3 and the maximum "
    "of the mean curve.",
)
DATASETS = (*published.SALIENCY_DATASETS, *published.LOCALIZATION_DATASETS)
CONFIGS = os.path.relpath(Path(__file__).resolve().parent.parent / "configs")


class Row(NamedTuple):
    """What stands behind one or more published rows.

    Attributes:
        name: of its folder under OUT, PREDICTIONS and BOXES.
        title: what is published of it.
        train: arguments of its training, which also has its images, weights and --train_args.
        evaluate: what is scored; nothing where only given masks and boxes can be.
        backbone: name of its backbone.
        options: how it is scored.
        teacher: the row whose masks it learns from.
        refine: what is done to these masks before.
    """

    name: str
    title: str
    train: str = ""
    evaluate: str = ""
    backbone: str = "dino_vits8"
    # The paper does not say under which protocol the numbers are that it carried over.
    options: str = "--protocols crop320,native --postprocessings none"
    teacher: str = ""
    refine: str = ""


_RUN = "--workdir {run}"
_OWN = "--protocols crop320 --postprocessings none,guided,bilateral"
_FILTERED = "--protocols crop320,native --postprocessings none,guided,bilateral_16_16_8"
# SelfMask chooses its foreground itself, by the ranking of its queries.
_STUDENT = "--protocols crop320,native --postprocessings none --foreground_rule none"


def _own(title: str, config: str, backbone: str = "dino_vits8") -> Row:
    name = title if backbone == "dino_vits8" else f"{title}_{backbone}"
    train = f"--config {{configs}}/{config}.py --config.backbone.name={backbone}"
    return Row(name, title, train, _RUN, backbone, _OWN)


# fmt: off
ROWS = (
    # The published numbers of LOST and TokenCut are over patches of 16.
    Row("lost", "LOST", "", "--method lost", "dino_vits16"),
    Row("deep_spectral", "Deep Spectral", "", "--method deep_spectral"),
    Row("tokencut", "TokenCut", "", "--method tokencut", "dino_vits16", _FILTERED),
    Row("found", "FOUND (single)", "--config {configs}/found.py",
        "--method found_single --decoder {decoder}"),
    Row("move", "MOVE", options=_FILTERED),
    Row("sempart", "Sempart"),
    Row("selfmask_move", "SelfMask on MOVE"),
    Row("selfmask_sempart", "SelfMask on Sempart"),
    # The filter of an ablation ("GF") is post-processing of the masks of "baseline"; "Crop" with
    # it is the full method, whose teacher is filtered in training, too.
    _own("baseline", "baseline"), _own("crop", "crop"), _own("tricks", "tricks"),
    _own("baseline", "baseline", "dino_vits16"), _own("crop", "crop", "dino_vits16"),
    _own("tricks", "dino_vits16", "dino_vits16"),
    _own("baseline", "baseline", "ibot_vits16"), _own("crop", "crop", "ibot_vits16"),
    _own("tricks", "ibot_vits16", "ibot_vits16"),
    Row("selfmask_baseline", "SelfMask on Sempart (re-implemented)",
        "--config {configs}/selfmask.py --config.pseudo_masks={masks}", _RUN,
        options=_STUDENT, teacher="baseline", refine="none"),
    Row("selfmask_tricks", "SelfMask on two tricks",
        "--config {configs}/selfmask.py --config.pseudo_masks={masks}", _RUN,
        options=_STUDENT, teacher="tricks", refine="guided"),
)
# fmt: on


def row_of(line: PublishedRow) -> Row:
    """Find what stands behind a line of a published table."""
    title, backbone = line.method, None
    if line.crop is not None:  # trained by the paper, not another method
        crop = "crop" if line.postprocessing == "none" else "tricks"
        title, backbone = crop if line.crop else "baseline", line.backbone or "dino_vits8"
    return next(row for row in ROWS if row.title == title and backbone in (None, row.backbone))


class Step(NamedTuple):
    """A command, and the folder where it leaves its result.

    Attributes:
        module: ``train``, ``segment`` or ``evaluate``.
        arguments: of the module.
        folder: of a training and of the masks that it learns from, the run's; else the report's.
        needs: run that must be trained before.
    """

    module: str
    arguments: list[str]
    folder: Path
    needs: Path | None = None

    def is_done(self) -> bool:
        """Say whether its result is there."""
        if self.module == "evaluate":
            return (self.folder / "results.json").is_file()
        return is_complete(self.folder)


def steps(row: Row, datasets: Sequence[str], options: argparse.Namespace) -> Iterator[Step]:
    """List the commands behind a row; what is given of a data set needs no other masks.

    Args:
        row: the row.
        datasets: names of the data sets that it is scored on; without one it is trained alone.
        options: the command line.
    """
    run = options.out / row.name
    scores, pseudo_masks = run / "scores", run / "pseudo_masks"
    scoring = ["--data_root", str(options.data_root), "--datasets"]
    missing = []
    for dataset in datasets:
        masks = options.predictions and options.predictions / row.name / dataset
        boxes = options.boxes and options.boxes / row.name / f"{dataset}.json"
        given: list[tuple[str, list[str], list[str]]] = []
        if masks and masks.is_dir():
            how = shlex.split(row.options)
            given.append(("masks", ["--predictions", str(masks.parent)], how))
        if boxes and dataset in BOXED_SETS and boxes.is_file():
            given.append(("boxes", ["--boxes", str(boxes)], []))
        for kind, source, how in given:
            report = scores / kind / dataset
            arguments = [*source, *scoring, dataset, *how, "--report", str(report)]
            yield Step("evaluate", arguments, report)
        if not given:
            missing.append(dataset)
    if not row.evaluate or (datasets and not missing):
        return
    decoder = options.found_decoder or run
    paths = {"run": run, "configs": CONFIGS, "masks": pseudo_masks, "decoder": decoder}
    weights, needs = options.weights.get(row.backbone), None
    if row.train and not (row.name == "found" and options.found_decoder):
        teacher = options.out / row.teacher if row.teacher else None
        if teacher:
            arguments = [str(options.images), "--workdir", str(teacher), "--out", str(pseudo_masks)]
            arguments += ["--outputs", "mask", "--refine", row.refine]
            yield Step("segment", arguments, run, needs=teacher)
        arguments = [word.format(**paths) for word in shlex.split(row.train)]
        arguments += ["--workdir", str(run), f"--config.data.train={options.images}"]
        arguments += [f"--config.backbone.weights={weights}"] * bool(weights) + options.train_args
        yield Step("train", arguments, run, needs=teacher)
        needs = run
    source = [word.format(**paths) for word in shlex.split(row.evaluate)]
    if "--method" in source:
        source += ["--backbone", row.backbone, *(["--weights", weights] if weights else [])]
        source += options.method_args
    for dataset in missing:
        report = scores / "computed" / dataset
        arguments = [*source, *scoring, dataset, *shlex.split(row.options)]
        yield Step("evaluate", [*arguments, "--report", str(report)], report, needs=needs)


def run_command(command: Sequence[str]) -> int:
    """Run a command and return its exit status; it ends in its own way if this program must."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal has told it, too
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise


def carry_out(row: Row, planned: Sequence[Step], options: argparse.Namespace) -> Iterator[str]:
    """Run what is not done yet of a row, and say what was left out or has failed, a line each."""
    has_weights = row.backbone in {*HUB_REPOSITORIES, *options.weights} or any(
        word.startswith("--config.backbone.") for word in options.train_args
    )
    for step in planned:
        command = [sys.executable, "-m", f"sempart_jax.{step.module}", *step.arguments]
        trains = step.module != "evaluate"
        if step.is_done():
            print(f"# done before: {step.module}, {step.folder}", flush=True)
            continue
        if trains and not options.train:
            continue
        if trains and not has_weights:
            yield f"left out: no download has its weights: give --weights {row.backbone}=PATH"
            return
        if not (
            step.needs is None or is_complete(step.needs) or (options.dry_run and options.train)
        ):
            yield f"left out: the run {step.needs} is not trained to its end"
            return
        print(shlex.join(command), flush=True)
        if options.dry_run:
            continue
        if status := run_command(command):
            yield f"failed: status {status} of {shlex.join(command)}"
        elif step.module == "train" and not step.is_done():
            yield f"failed: told to end before its last step: {shlex.join(command)}"
        else:
            continue
        if trains:
            return


def table(number: int, datasets: Sequence[str], reports: Sequence[Path]) -> Table | None:
    """Lay out a table of the paper with ours beside every number; None without its data sets.

    Args:
        number: of the table.
        datasets: names of data sets.
        reports: folders of evaluations, ``ROW/scores/KIND/DATASET``.
    """
    rows: list[tuple[str, ...]] = []
    metrics: list[str] = []
    for line in published.find_rows(table=number):
        for dataset in (name for name in line.scores if name in datasets):
            metrics = list(line.scores[dataset])
            for origin, ours in list(_ours(line, dataset, reports)) or [(MISSING, {})]:
                rows.append(_cells(line, dataset, origin, ours))
    if not rows:
        return None
    columns = ["method", "masks", "data set", "images", "protocol", "ours from", "published by"]
    text_columns = len(columns)
    for metric in map(title, metrics):
        columns += [metric, f"{metric} published", "difference"]
    name = f"Table {number} of {published.SOURCE}: {TITLES[number]}"
    return Table(name, tuple(columns), text_columns, tuple(rows), len(rows), NOTES)


def _ours(
    line: PublishedRow, dataset: str, reports: Sequence[Path]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for report in reports:
        name, _, kind, scored = report.parts[-4:]
        if (name, scored) == (row_of(line).name, dataset) and (results := _read(report)):
            for scores in (*results["saliency"], *results["localization"]):
                if scores["postprocessing"] == line.postprocessing:
                    yield f"{name}, {kind}", scores


def _read(report: Path) -> dict[str, Any]:
    path = report / "results.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _cells(line: PublishedRow, dataset: str, origin: str, ours: dict[str, Any]) -> tuple[str, ...]:
    method, images = line.method, MISSING
    if line.backbone is not None:
        tricks = ["Crop"] * bool(line.crop) + ["GF"] * (line.postprocessing == "guided")
        method = f"{line.backbone}: {' + '.join(tricks) or 'no trick'}"
    if ours:
        images = count(ours["images"], ours["published_images"])
    masks, protocol = title(line.postprocessing), ours.get("protocol", MISSING)
    cells = [method, masks, title(dataset), images, protocol, origin, line.evaluator]
    for metric, value in line.scores[dataset].items():
        digits, mine, mark, difference = 1 if metric == "corloc" else 3, ours.get(metric), "", ""
        if metric == "max_f_beta" and line.f_family == "per_image":
            mark = OTHER_F_MARK
        elif mine is not None:
            # Adding zero takes the sign off a negative zero.
            difference = f"{round(mine - value, digits) + 0.0:+.{digits}f}"
        cells.append(MISSING if mine is None else f"{mine:.{digits}f}")
        cells += [f"{value:.{digits}f}{mark}", difference or MISSING]
    return tuple(cells)


def tables_document(
    tables: Sequence[str], datasets: Sequence[str], reports: Sequence[Path], problems: Sequence[str]
) -> str:
    """Write all tables, what ours is of, and what was left out, as one Markdown document."""
    parts = [f"# Tables of {published.SOURCE} with ours beside them"]
    for found in filter(None, (table(int(number), datasets, reports) for number in tables)):
        parts += [f"## {found.title}", markdown_table(found)]
    facts = {report: "; ".join(_read(report).get("facts", {}).values()) for report in reports}
    ours = [f"{report}: {text}" for report, text in facts.items() if text]
    for heading, lines in {"Ours": ours, "Left out and failed": problems}.items():
        parts += [f"## {heading}", "\n".join(f"- `{line}`" for line in lines)] * bool(lines)
    return "\n\n".join(parts) + "\n"


def read_weights(entry: str) -> tuple[str, str]:
    """Read ``NAME=PATH`` of a backbone."""
    name, _, path = entry.partition("=")
    if name not in BACKBONES or not path:
        raise argparse.ArgumentTypeError(
            f"{entry} is not NAME=PATH with one of {', '.join(BACKBONES)}"
        )
    if path != RANDOM_WEIGHTS:
        existing(path)
    return name, path


def existing(path: str) -> Path:
    """Refuse a path where there is nothing."""
    if not Path(path).exists():
        raise argparse.ArgumentTypeError(f"there is no {path}")
    return Path(path)


def among(*known: str) -> Any:
    """Read names with commas between them, each of which must be known."""

    def read(words: str) -> list[str]:
        names = words.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose among {', '.join(known)}")
        return [name for name in known if name in names]

    return read


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data_root", type=Path, default=Path("data"), help="folder that holds the data sets")
    add("--images", type=Path, help="what is trained on; DATA_ROOT/DUTS by default")
    add("--out", type=Path, default=Path("runs/tables"), help="folder for all that is made")
    numbers = [str(number) for number in TITLES]
    add("--tables", type=among(*numbers), default=numbers, help="numbers of tables, as 1,3")
    add("--datasets", type=among(*DATASETS), default=DATASETS, help="names of data sets")
    add("--predictions", type=existing, help="folder of masks, ROW/DATASET/*.png")
    add("--boxes", type=existing, help="folder of boxes, ROW/DATASET.json")
    add("--found_decoder", type=existing, help="file of FOUND's decoder, in place of a training")
    add("--weights", type=read_weights, action="append", default=[], help="NAME=PATH of a backbone")
    add("--notrain", dest="train", action="store_false", help="take what is trained already")
    add("--train_args", type=shlex.split, default=[], help="further arguments of each training")
    add("--method_args", type=shlex.split, default=[], help="... of each evaluation of a method")
    add("--dry_run", action="store_true", help="show the commands and run none of them")
    options = parser.parse_args(expand_home(arguments))
    options.weights = dict(options.weights)
    options.images = options.images or options.data_root / "DUTS"
    names = {row.name for row in ROWS}
    for folder in filter(None, (options.predictions, options.boxes)):
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name not in names:
                parser.error(f"{entry} is the folder of no row: name it one of {', '.join(names)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the commands behind the tables, and print and write the tables."""
    options = parse(arguments)
    datasets = []
    for name in options.datasets:
        try:
            opened = open_boxed_set if name in BOXED_SETS else open_labelled_set
            opened(name, options.data_root)
            datasets.append(name)
        except FileNotFoundError as error:
            print(f"# left out: {name}: {error}", flush=True)
    lines = [line for number in options.tables for line in published.find_rows(table=int(number))]
    if not any(set(line.scores) & set(options.datasets) for line in lines):
        sys.exit("error: none of these tables has one of these data sets")
    plan: dict[Row, list[Step]] = {}
    problems: list[str] = []
    for row in ROWS:
        scored = {name for line in lines if row_of(line) == row for name in line.scores}
        wanted = [name for name in datasets if name in scored]
        plan[row] = list(steps(row, wanted, options)) if wanted else []
        missing = [name for name in wanted if name not in {step.folder.name for step in plan[row]}]
        if missing:
            problems.append(
                f"{row.name}: left out: no masks (PREDICTIONS/{row.name}/DATASET/*.png) or boxes "
                f"(BOXES/{row.name}/DATASET.json) are given of {', '.join(missing)}"
            )
            print(f"# {problems[-1]}", flush=True)
    for row in ROWS:
        teacher = next((other for other in ROWS if other.name == row.teacher), None)
        if teacher and plan[row] and not any(step.module == "train" for step in plan[teacher]):
            plan[teacher] += steps(teacher, (), options)
    document = ""
    with contextlib.nullcontext() if options.dry_run else locked(options.out, "--out"):
        for row, planned in plan.items():
            for problem in carry_out(row, planned, options):
                print(f"# {row.name}: {problem}", flush=True)
                problems.append(f"{row.name}: {problem}")
            if not options.dry_run:
                reports = [step.folder for each in plan.values() for step in each]
                document = tables_document(options.tables, datasets, reports, problems)
                write_atomically(options.out / "tables.md", document)
    if options.dry_run:
        return
    print(f"\n{document}\nthe tables are in {options.out}/tables.md")
    if failures := [line for line in problems if ": failed: " in line]:
        sys.exit("error: not all commands have succeeded:\n  " + "\n  ".join(failures))


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except (ValueError, OSError) as expected:
        sys.exit(f"error: {expected}")
    except KeyboardInterrupt:
        sys.exit(130)
