"""The record of a run that guards its resumption: its configuration, and what it was made of.

``config.json`` holds the configuration, with paths that are absolute or, of files inside the run,
relative to it; ``run.json`` fingerprints of images and backbone, how many steps the run is to have,
and the step of a checkpoint that was written, so that it is noticed when checkpoints disappear.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.config_fields import flatten
from sempart_jax.host.errors import writing
from sempart_jax.runs.metrics_file import read_rows
from sempart_jax.runs.run_config import PATH_FIELDS, changed_fields

_KEPT_STEP = "kept step"
_LAST_STEP = "last step"

_REMOVED_FIELDS = (("data", "cache_gigabytes"),)
"""Fields that older runs have recorded and that changed nothing of what was trained."""


class OtherTaskError(ValueError):
    """The working directory holds a run that trains something else."""


class ResumeError(ValueError):
    """The working directory holds a run that the present one may not continue."""


def register_run(
    workdir: str | Path,
    config: ConfigDict,
    fingerprints: Mapping[str, str],
    *,
    last_step: int,
    default: ConfigDict,
    resumable_fields: Container[str],
) -> None:
    """Record a new run, or check that the one in ``workdir`` may be continued.

    A run that has kept nothing yet is new: it may have failed by what is now put right.

    Args:
        workdir: directory of the run; made if absent.
        config: configuration asked for now.
        fingerprints: hashes of what the configuration points to, by name (images, backbone).
        last_step: steps at the end of the run.
        default: configuration of the same task; has the fields that are newer than the run.
        resumable_fields: fields of the configuration that may differ when the run is continued.

    Raises:
        ResumeError: names each field or content that differs from the recorded run, or the file of
            the record that is missing or damaged.
        OtherTaskError: if that is of another task.
        ValueError: if its configuration is damaged.
        WriteError: if the directory cannot be written to.
    """
    workdir = Path(workdir)
    config_file, run_file = workdir / "config.json", workdir / "run.json"
    recorded = _whole_record(workdir)
    if _has_checkpoints(workdir) or _KEPT_STEP in recorded:
        problems = changed_fields(read_config(workdir, default), config, resumable_fields)
        for name, value in fingerprints.items():
            if name in recorded and recorded[name] != value:
                problems.append(f"the {name} have changed since the run was started")
        if problems:
            listed = "\n  ".join(problems)
            raise ResumeError(
                f"{workdir} holds a run with another configuration:\n  {listed}\n"
                "Restore them to continue the run, or choose another --workdir to start a new one."
            )
        logging.info("continuing the run in %s", workdir)
    else:
        recorded = {}
        # What was scored before the first step may be of another configuration.
        with writing(workdir):
            shutil.rmtree(workdir / "best" / "0", ignore_errors=True)
    recorded_config = _with_paths(config, lambda path: _portable(path, workdir))
    write_atomically(config_file, recorded_config.to_json_best_effort(indent=2) + "\n")
    fields = recorded | dict(fingerprints) | {_LAST_STEP: last_step}
    write_atomically(run_file, json.dumps(fields, indent=2) + "\n")


def _with_paths(config: ConfigDict, change: Callable[[str], str]) -> ConfigDict:
    fields = flatten(config)
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(
        {name: change(str(fields[name])) for name in PATH_FIELDS if fields.get(name)}
    )
    return config


def _portable(given: str, workdir: Path) -> str:
    """Return a path that is absolute, or relative to the run where it lies inside it."""
    path = Path(given)
    # hf:OWNER/NAME, for example, is none.
    if not path.exists():
        return given
    inside, run = path.parent.resolve() / path.name, workdir.resolve()
    return str(inside.relative_to(run) if inside.is_relative_to(run) else path.absolute())


def _found(recorded: str, workdir: Path) -> str:
    inside = workdir / recorded
    # Older runs have recorded what was typed.
    return str(inside) if inside.exists() else recorded


def _whole_record(workdir: Path) -> dict[str, Any]:
    """Read ``run.json``; ResumeError where it or the configuration of a begun run is lost."""
    config_file, run_file = workdir / "config.json", workdir / "run.json"
    kept = _has_checkpoints(workdir)
    begun = kept or any(row.step > 0 for row in read_rows(workdir / "metrics.jsonl"))
    anew = f"Restore it from a backup, or start again in another --workdir than {workdir}"
    if begun and not config_file.exists():
        raise ResumeError(f"{config_file}, the configuration of the run, is gone. {anew}")
    try:
        recorded = _read_record(workdir) if run_file.exists() else None
        problem = "is gone"
    except ValueError as error:
        recorded, problem = None, f"is damaged ({error})"
    if recorded is not None:
        return recorded
    if begun:
        # Whose images and weights these are cannot be computed from what is there now.
        but = (
            ". If you are sure that images and backbone weights have not changed, "
            f"`echo '{{}}' > {shlex.quote(str(run_file))}` lets the run continue"
        )
        raise ResumeError(f"{run_file}, the record of the run, {problem}. {anew}{but * kept}")
    if run_file.exists():
        logging.warning("%s %s; no step was saved yet, so it is replaced", run_file, problem)
    return {}


def _has_checkpoints(workdir: Path) -> bool:
    """Whether there is a trained state, if only a damaged one."""
    names = [path.name for name in ("checkpoints", "best") for path in (workdir / name).glob("*")]
    steps = [re.fullmatch(r"(\d+)(\.damaged\d*)?", name) for name in names]
    return any(step is not None and int(step[1]) > 0 for step in steps)


def note_kept_step(workdir: str | Path, step: int) -> None:
    """Record that a checkpoint of a step has been written."""
    path = Path(workdir) / "run.json"
    with writing(path):
        recorded = _read_record(Path(workdir))
    write_atomically(path, json.dumps(recorded | {_KEPT_STEP: step}, indent=2) + "\n")


def is_complete(workdir: str | Path) -> bool:
    """Say whether the last step of a run has been kept.

    One that was told to end has not failed, and ends as one that is complete.
    """
    path = Path(workdir) / "run.json"
    recorded = _read_record(Path(workdir)) if path.exists() else {}
    return _LAST_STEP in recorded and recorded.get(_KEPT_STEP, 0) >= recorded[_LAST_STEP]


def check_nothing_lost(workdir: str | Path) -> None:
    """Refuse to start a run over that has had checkpoints."""
    step = _read_record(Path(workdir)).get(_KEPT_STEP)
    if step is not None:
        raise ResumeError(
            f"the checkpoints of the run in {workdir} are gone; it had one of step {step}. "
            f"Restore {workdir}/checkpoints from a backup, or start again in another --workdir"
        )


def read_config(workdir: str | Path, default: ConfigDict) -> ConfigDict:
    """Read the configuration of a run.

    Args:
        workdir: directory of the run.
        default: a configuration of the same task.

    Returns:
        The configuration; fields that are newer than the run are those of ``default``, and fields
        that there are no more are left out. Paths of files inside the run lead into ``workdir``,
        wherever that has been moved.

    Raises:
        FileNotFoundError: if there is no run.
        OtherTaskError: if it is a run of another task.
        ValueError: if the file is damaged.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"no run in {workdir}: {path} does not exist")
    fields = _read_json(path)
    task = fields.get("task", default.task)
    if task != default.task:
        raise OtherTaskError(
            f"{workdir} holds a run of {task}, but a run of {default.task} is needed"
        )
    config = default.copy_and_resolve_references()
    try:
        with config.unlocked():
            for group, name in _REMOVED_FIELDS:
                fields.get(group, {}).pop(name, None)
            config.update(fields)
    except (TypeError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason}); restore it from a backup") from error
    missing = [name for name, value in flatten(config).items() if value is None]
    if missing:
        raise ValueError(
            f"{path} is damaged (no value of {', '.join(missing)}); restore it from a backup"
        )
    return _with_paths(config, lambda recorded: _found(recorded, path.parent))


def _read_record(workdir: Path) -> dict[str, Any]:
    path = workdir / "run.json"
    fields = _read_json(path)
    for name, value in fields.items():
        wanted = int if name in (_KEPT_STEP, _LAST_STEP) else str
        if type(value) is not wanted:
            raise ValueError(f"{path}: {name!r} is {value!r}; restore it from a backup")
    return fields


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it from a backup") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds no JSON object; restore it from a backup")
    return fields
