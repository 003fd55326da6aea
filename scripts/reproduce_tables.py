r"""Make Tables 1 to 5 of the paper (arXiv 2404.03392): train, score, and print ours beside them.

    python scripts/reproduce_tables.py --data_root data --out runs/tables \
        --weights ibot_vits16=checkpoint_teacher.pth --predictions masks --boxes boxes

Trains every run behind the tables on DATA_ROOT/DUTS and scores each once for all tables. Of other
methods, masks in PREDICTIONS/METHOD/DATASET/*.png and boxes in BOXES/METHOD/DATASET.json are scored
where they are given. Where not, LOST, Deep Spectral, TokenCut and FOUND are computed, FOUND after
training its decoder, and SelfMask is trained on the masks of the runs; the others are left out.

Started again, the same command goes on where it was stopped; what is finished is not done again.
The tables are printed and written to OUT/tables.md and OUT/tables.json. --dry_run shows the
commands, which are run from the repository's root.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from sempart_jax import command_line
from sempart_jax.atomic_write import write_atomically
from sempart_jax.folder_lock import locked
from sempart_jax.models.names import BACKBONES, RANDOM_WEIGHTS
from sempart_jax.recorded_commands import write_json
from sempart_jax.report.reproduction import DATASETS, SAVED_FOLDERS, TABLES, needed
from sempart_jax.report.reproduction_tables import compare, line_records, tables_document

if TYPE_CHECKING:
    from sempart_jax.reproduction.rows import Reproduction

REPOSITORY = Path(__file__).resolve().parent.parent


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


def read_file(flag: flags.FlagHolder[str | None]) -> Path | None:
    """Return the file that a flag names.

    Raises:
        FileNotFoundError: if there is none.
    """
    if flag.value is None:
        return None
    if not Path(flag.value).is_file():
        raise FileNotFoundError(f"--{flag.name}: there is no file {flag.value}")
    return from_repository(flag.value)


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


def write_tables(
    reproduction: "Reproduction", tables: Sequence[int], datasets: Sequence[str], out: Path
) -> str:
    """Write what there is so far to OUT/tables.md and OUT/tables.json, and return the former."""
    lines = {number: compare(number, datasets, reproduction.results) for number in tables}
    further = {flag.name: shlex.split(flag.value) for flag in (_TRAIN_ARGS, _METHOD_ARGS)}
    commands = reproduction.commands
    remarks = {"not run": commands.left_out, "failed": commands.failures}
    document = tables_document(
        lines, **{name: shlex.join(words) for name, words in further.items()}, remarks=remarks
    )
    write_atomically(out / "tables.md", document)
    rows = [row for number, found in lines.items() for row in line_records(number, found)]
    write_json(out / "tables.json", {**further, "rows": rows, **remarks})
    return document


_DATA_ROOT = flags.DEFINE_string("data_root", "data", "Folder that holds the data sets.")
_OUT = flags.DEFINE_string("out", "runs/tables", "Folder for runs, reports and tables.")
_TABLES = flags.DEFINE_list("tables", [str(number) for number in TABLES], "Numbers of tables.")
_DATASETS = flags.DEFINE_list("datasets", list(DATASETS), "Names of data sets.")
_PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "Folder of saved masks, METHOD/DATASET/*.png."
)
_BOXES = flags.DEFINE_string("boxes", None, "Folder of saved boxes, METHOD/DATASET.json.")
_FOUND_DECODER = flags.DEFINE_string(
    "found_decoder", None, "File of FOUND's decoder; it is trained where none is given."
)
_WEIGHTS = flags.DEFINE_multi_string("weights", [], "NAME=PATH: weights of a backbone as a file.")
_TRAIN = flags.DEFINE_bool("train", True, "Train; otherwise take what is trained already.")
_TRAIN_ARGS = flags.DEFINE_string("train_args", "", "Further arguments of every training.")
_METHOD_ARGS = flags.DEFINE_string(
    "method_args", "", "Further arguments of every evaluation of a method over a frozen backbone."
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show the commands and run none of them.")


def _main() -> None:
    tables = [int(number) for number in chosen(_TABLES, [str(number) for number in TABLES])]
    datasets = chosen(_DATASETS, DATASETS)
    out = from_repository(_OUT.value)
    settings: dict[str, Any] = {
        "data_root": from_repository(_DATA_ROOT.value),
        "out": out,
        "predictions": read_folder(_PREDICTIONS),
        "boxes": read_folder(_BOXES),
        "found_decoder": read_file(_FOUND_DECODER),
        "weights": read_weights(_WEIGHTS.value),
        "train_args": shlex.split(_TRAIN_ARGS.value),
        "method_args": shlex.split(_METHOD_ARGS.value),
        "train": _TRAIN.value,
        "dry_run": _DRY_RUN.value,
    }
    # What is mistyped has been told before JAX is imported.
    from sempart_jax.reproduction.rows import Reproduction

    reproduction = Reproduction(**settings)
    os.chdir(REPOSITORY)
    plan = needed(tables, datasets)
    if not plan:
        raise ValueError("none of these tables has one of these data sets")
    reproduction.look_at_data(name for name in DATASETS if any(name in plan[key] for key in plan))
    if _DRY_RUN.value:
        for key, wanted in plan.items():
            reproduction.score(key, wanted)
        return
    document = ""
    with locked(out, "--out"):
        for key, wanted in plan.items():
            reproduction.score(key, wanted)
            document = write_tables(reproduction, tables, datasets, out)
    print(f"\n{document}\nthe tables are in {out}/tables.md and {out}/tables.json")
    if failures := reproduction.commands.failures:
        listed = "\n  ".join(failures)
        sys.exit(f"error: failed commands, {len(failures)} in all:\n  {listed}")


if __name__ == "__main__":
    command_line.run(_main, resumable=True)
