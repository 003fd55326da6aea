r"""Make Tables 1 to 5 of the paper (arXiv 2404.03392): train, score, and print ours beside them.

    python scripts/reproduce_tables.py --data_root data --out runs/tables \
        --weights ibot_vits16=checkpoint_teacher.pth --predictions masks --boxes boxes

Trains every run behind the tables on DATA_ROOT/DUTS and scores each once for all tables. Masks of
other methods are taken from PREDICTIONS/METHOD/DATASET/*.png, boxes from BOXES/METHOD/DATASET.json.
Started again, the same command goes on where it was stopped; what is finished is not done again.
The tables are printed and written to OUT/tables.md and OUT/tables.json. --dry_run shows the
commands, which are run from the repository's root.
"""

import functools
import hashlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from sempart_jax import __version__, command_line
from sempart_jax.atomic_write import write_atomically
from sempart_jax.data.benchmarks import open_labelled_set
from sempart_jax.data.boxed import BOXED_SETS, open_boxed_set, read_boxes
from sempart_jax.evaluation.origin import saved_origin
from sempart_jax.models.backbone import RANDOM_WEIGHTS
from sempart_jax.models.pretrained import HUB_REPOSITORIES
from sempart_jax.models.vit import BACKBONES
from sempart_jax.recorded_commands import RecordedCommands, read_record, reason_to_run, write_json
from sempart_jax.report.reproduction import (
    DATASETS,
    RUN_POSTPROCESSINGS,
    SAVED_FOLDERS,
    TABLES,
    Run,
    needed,
    saved_postprocessings,
)
from sempart_jax.report.reproduction_tables import compare, line_records, tables_document

REPOSITORY = Path(__file__).resolve().parent.parent
REPORT = "evaluation"
TRAINED = "trained.json"
"""Record of a training in its folder: its command, and whether it was finished."""
EVALUATED = "evaluated.json"
"""The same of an evaluation."""
_PYTHON = (sys.executable, "-m")
_BACKBONE_FLAG = "--config.backbone."


class DataSets:
    """What there is of each data set, looked at once."""

    def __init__(self, root: Path) -> None:
        """Take the folder that holds the data sets."""
        self._root = root
        self._counts: dict[str, int | None] = {}

    def images(self, name: str) -> int | None:
        """Count the images that can be scored, ``None`` if the data set is missing."""
        if name in BOXED_SETS:
            return self._look(name, lambda: len(open_boxed_set(name, self._root).paths))
        return self._look(name, lambda: len(open_labelled_set(name, self._root)))

    def annotated(self, name: str) -> int | None:
        """Count the images whose true boxes are known, ``None`` if there are none."""
        return self._look(f"boxes of {name}", lambda: len(read_boxes(name, self._root)))

    def _look(self, title: str, count: Callable[[], int]) -> int | None:
        if title not in self._counts:
            try:
                self._counts[title] = count()
            except FileNotFoundError as error:
                self._counts[title] = None
                print(f"# skipped: {title}: {error}", flush=True)
        return self._counts[title]


class Reproduction:
    """Runs what is needed for the tables, and keeps what it has found.

    Attributes:
        results: contents of ``results.json`` of each finished evaluation, by its folder.
        not_run: what could not be run and why, a line each.
        commands: what runs them.
    """

    def __init__(
        self,
        *,
        data_root: Path,
        out: Path,
        predictions: Path | None,
        boxes: Path | None,
        weights: Mapping[str, str],
        train_args: Sequence[str],
        train: bool,
        dry_run: bool,
    ) -> None:
        """Take the settings of the command line."""
        self._data_root, self._out, self._data = data_root, out, DataSets(data_root)
        self._predictions, self._boxes, self._weights = predictions, boxes, weights
        self._train_args, self._train, self._dry_run = train_args, train, dry_run
        self.commands = RecordedCommands(dry_run=dry_run)
        self.results: dict[str, dict[str, Any]] = {}
        self.not_run: list[str] = []

    def look_at_data(self, names: Iterable[str]) -> None:
        """Say what is missing before the first training starts, which may take days."""
        for name in names:
            self._data.images(name)

    def train_and_score(self, run: Run, wanted: Sequence[str]) -> None:
        """Train a run to its end and score it on the wanted data sets that are there."""
        folder = self._out / run.name
        arguments = [*run.arguments, "--workdir", str(folder)]
        arguments.append(f"--config.data.train={self._data_root / 'DUTS'}")
        weights = self._weights.get(run.backbone)
        if weights is not None:
            arguments.append(f"--config.backbone.weights={weights}")
        arguments += self._train_args
        settings, path = {"arguments": shlex.join(arguments)}, folder / TRAINED
        record, command = read_record(path), [*_PYTHON, "sempart_jax.train", *arguments]
        has_weights = weights or any(word.startswith(_BACKBONE_FLAG) for word in self._train_args)
        obstacle = None
        if not any(self._data.images(name) for name in wanted):
            obstacle = f"none of {', '.join(wanted)} is there"
        elif run.backbone not in HUB_REPOSITORIES and not has_weights:
            obstacle = f"no download has its weights: give --weights {run.backbone}=PATH"
        elif not self._train:
            obstacle = "it is not trained so, and --notrain was given"
        if obstacle and reason_to_run(record, settings):
            self._leave_out(f"run {run.name}: {obstacle}")
        elif self.commands.run(path, record, command, settings):
            options = {"protocols": "crop320", "postprocessings": ",".join(RUN_POSTPROCESSINGS)}
            masks, of = ["--workdir", str(folder)], settings["arguments"]
            self._score(run.name, masks, wanted, self._data.images, options, of=of)

    def score_saved(self, method: str, wanted: Sequence[str]) -> None:
        """Score the saved masks and boxes of a method on the wanted data sets that are there."""
        masks = self._predictions and self._predictions / method
        given = masks is not None and any((masks / name).is_dir() for name in wanted)
        if masks is not None and given:
            options = {
                "protocols": "crop320,native",
                "postprocessings": ",".join(saved_postprocessings(method)),
            }
            source = ["--predictions", str(masks)]
            identify = functools.partial(self._masks_of, masks)
            self._score(f"masks/{method}", source, wanted, identify, options)
        for name in wanted:
            file = self._boxes and self._boxes / method / f"{name}.json"
            if file is not None and name in BOXED_SETS and file.is_file():
                given = True
                identify = functools.partial(self._boxes_of, file)
                self._score(f"boxes/{method}/{name}", ["--boxes", str(file)], [name], identify, {})
        if not given:
            self._leave_out(
                f"{method}: no saved masks (PREDICTIONS/{method}/DATASET/*.png) or boxes "
                f"(BOXES/{method}/DATASET.json) are given"
            )

    def _masks_of(self, folder: Path, dataset: str) -> str | None:
        """Identify the masks of a data set, ``None`` where either is missing."""
        if not (folder / dataset).is_dir() or (images := self._data.images(dataset)) is None:
            return None
        stamps = json.dumps(saved_origin(folder / dataset).stamps)
        return f"{images} images, masks {hashlib.sha256(stamps.encode()).hexdigest()[:16]}"

    def _boxes_of(self, file: Path, dataset: str) -> str | None:
        """Identify given boxes, ``None`` where the true ones are missing."""
        images = self._data.annotated(dataset)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return None if images is None else f"{images} images, boxes {digest[:16]}"

    def _score(
        self,
        origin: str,
        source: Sequence[str],
        wanted: Sequence[str],
        identify: Callable[[str], Any],
        options: Mapping[str, str],
        *,
        of: str = "",
    ) -> None:
        """Evaluate, if need be, and keep the result.

        Args:
            origin: folder under OUT.
            source: flag of the evaluation that says what is scored, and its value.
            wanted: data sets.
            identify: identifies what would be scored of a data set, ``None`` if it is missing.
            options: further flags of the evaluation.
            of: what the masks have come from, where the source does not say it.
        """
        folder = self._out / origin
        results = folder / REPORT / "results.json"
        record = read_record(folder / EVALUATED, results)
        settings = {"source": shlex.join(source), "of": of, "version": __version__}
        settings |= {"data_root": str(self._data_root), **options}
        there = _identified(wanted, identify)
        if reason_to_run(record, settings, there):
            if not there:
                self._leave_out(f"{origin}: none of {', '.join(wanted)} is there")
                return
            # What was scored before stays in the report.
            there = _identified({*wanted, *(record or {}).get("contents", ())}, identify)
        command = [*_PYTHON, "sempart_jax.evaluate", *source, "--data_root", str(self._data_root)]
        command += ["--datasets", ",".join(there)]
        for name, value in options.items():
            command += [f"--{name}", value]
        command += ["--report", str(folder / REPORT)]
        done = self.commands.run(folder / EVALUATED, record, command, settings, there)
        if done and not self._dry_run:
            self.results[origin] = json.loads(results.read_text(encoding="utf-8"))

    def _leave_out(self, line: str) -> None:
        self.not_run.append(line)
        print(f"# not run: {line}", flush=True)


def _identified(names: Collection[str], identify: Callable[[str], Any]) -> dict[str, Any]:
    contents = {name: identify(name) for name in DATASETS if name in names}
    return {name: content for name, content in contents.items() if content is not None}


def read_weights(given: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=PATH`` of backbones.

    Raises:
        ValueError: if one is not of this form or names no backbone.
        FileNotFoundError: if there is no such file.
    """
    weights = {}
    for entry in given:
        name, _, path = entry.partition("=")
        if name not in BACKBONES or not path:
            raise ValueError(
                f"--weights {entry} is not NAME=PATH with one of {', '.join(BACKBONES)}"
            )
        if path != RANDOM_WEIGHTS and not Path(path).is_file():
            raise FileNotFoundError(f"--weights {entry}: there is no file {path}")
        weights[name] = path if path == RANDOM_WEIGHTS else str(from_repository(path))
    return weights


def from_repository(path: str) -> Path:
    """Return a path as it is seen from the repository's root, where the commands run."""
    absolute = Path(path).expanduser().absolute()
    return absolute.relative_to(REPOSITORY) if absolute.is_relative_to(REPOSITORY) else absolute


def read_folder(flag: flags.FlagHolder[str | None]) -> Path | None:
    """Return the folder of saved masks or boxes that a flag names.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a folder in it is of no method.
    """
    if flag.value is None:
        return None
    folder = Path(flag.value)
    if not folder.is_dir():
        raise FileNotFoundError(f"--{flag.name}: there is no folder {folder}")
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name not in SAVED_FOLDERS.values():
            known = ", ".join(SAVED_FOLDERS.values())
            raise ValueError(f"{entry} is the folder of no method: name it one of {known}")
    return from_repository(flag.value)


def chosen(flag: flags.FlagHolder[list[str]], known: Sequence[str]) -> list[str]:
    """Return those of the known names that a flag lists, in their own order.

    Raises:
        ValueError: if it lists another one, or none.
    """
    unknown = [name for name in flag.value if name not in known]
    if unknown or not flag.value:
        raise ValueError(f"--{flag.name}={','.join(flag.value)}: choose among {', '.join(known)}")
    return [name for name in known if name in flag.value]


_DATA_ROOT = flags.DEFINE_string("data_root", "data", "Folder that holds the data sets.")
_OUT = flags.DEFINE_string("out", "runs/tables", "Folder for runs, reports and tables.")
_TABLES = flags.DEFINE_list("tables", [str(number) for number in TABLES], "Numbers of tables.")
_DATASETS = flags.DEFINE_list("datasets", list(DATASETS), "Names of data sets.")
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "Folder of saved masks, METHOD/DATASET/*.png."
)
_BOXES = flags.DEFINE_string("boxes", None, "Folder of saved boxes, METHOD/DATASET.json.")
_WEIGHTS = flags.DEFINE_multi_string("weights", [], "NAME=PATH: weights of a backbone as a file.")
_TRAIN = flags.DEFINE_bool("train", True, "Train; otherwise take what is trained already.")
_TRAIN_ARGS = flags.DEFINE_string("train_args", "", "Further arguments of every training.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show the commands and run none of them.")


def _main() -> None:
    tables = [int(number) for number in chosen(_TABLES, [str(number) for number in TABLES])]
    datasets = chosen(_DATASETS, DATASETS)
    train_args = shlex.split(_TRAIN_ARGS.value)
    out = from_repository(_OUT.value)
    reproduction = Reproduction(
        data_root=from_repository(_DATA_ROOT.value),
        out=out,
        predictions=read_folder(_PREDICTIONS),
        boxes=read_folder(_BOXES),
        weights=read_weights(_WEIGHTS.value),
        train_args=train_args,
        train=_TRAIN.value,
        dry_run=_DRY_RUN.value,
    )
    os.chdir(REPOSITORY)
    # A killed program takes the command that it is running with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    plan = needed(tables, datasets)
    if not plan:
        raise ValueError("none of these tables has one of these data sets")
    reproduction.look_at_data([name for key in plan if isinstance(key, Run) for name in plan[key]])
    markdown = ""
    for key, wanted in plan.items():
        if isinstance(key, Run):
            reproduction.train_and_score(key, wanted)
        else:
            reproduction.score_saved(key, wanted)
        if not _DRY_RUN.value:
            lines = {number: compare(number, datasets, reproduction.results) for number in tables}
            remarks = {"not run": reproduction.not_run, "failed": reproduction.commands.failures}
            markdown = tables_document(lines, train_args=shlex.join(train_args), remarks=remarks)
            write_atomically(out / "tables.md", markdown)
            rows = [row for number, found in lines.items() for row in line_records(number, found)]
            write_json(out / "tables.json", {"train_args": train_args, "rows": rows, **remarks})
    if _DRY_RUN.value:
        return
    print(f"\n{markdown}\nthe tables are in {out}/tables.md and {out}/tables.json")
    if failures := reproduction.commands.failures:
        listed = "\n  ".join(failures)
        sys.exit(f"error: failed commands, {len(failures)} in all:\n  {listed}")


if __name__ == "__main__":
    try:
        command_line.run(_main)
    except KeyboardInterrupt:
        sys.exit("error: interrupted; the same command goes on from here")
