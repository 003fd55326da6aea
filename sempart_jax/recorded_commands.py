"""Long commands one after another, each run once: what it was, and whether it came to its end."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sempart_jax.atomic_write import write_atomically
from sempart_jax.command_process import run_command

Record = Mapping[str, Any]
"""``command``, ``settings``, ``contents`` and ``finished``."""


class RecordedCommands:
    """Runs commands and leaves a record of each beside its result.

    Attributes:
        failures: commands that failed or were ended, a line each.
    """

    def __init__(self, *, dry_run: bool = False) -> None:
        """Choose whether commands are only shown."""
        self._dry_run = dry_run
        self.failures: list[str] = []

    def run(
        self,
        path: Path,
        record: Record | None,
        command: Sequence[str],
        settings: Mapping[str, str],
        contents: Mapping[str, Any] | None = None,
        is_complete: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Run a command unless its record holds, and say which of both.

        Args:
            path: file of the record.
            record: what :func:`read_record` has found there.
            command: program and arguments; its output is passed through.
            settings: all that the result follows from.
            contents: identifies what is read, by its name.
            is_complete: asked after a command that has not failed; without it that is enough.

        Returns:
            Whether there is a result now; in a dry run whether there would be one.
        """
        reason = reason_to_run(record, settings, contents)
        if record is not None and reason is None:
            print(f"# finished before: {shlex.join(record['command'])}", flush=True)
            return True
        print(f"# {reason}\n{shlex.join(command)}", flush=True)
        if self._dry_run:
            return True
        written = {"command": command, "settings": settings, "contents": contents or {}}
        write_json(path, {**written, "finished": False})
        status = run_command(command)
        if status:
            self.failures.append(f"status {status} of {shlex.join(command)}")
            print(f"# failed with status {status}", flush=True)
            return False
        if not is_complete():
            self.failures.append(f"not complete, as it was told to end: {shlex.join(command)}")
            print("# ended before it was complete", flush=True)
            return False
        write_json(path, {**written, "finished": True})
        return True


def reason_to_run(
    record: Record | None,
    settings: Mapping[str, str],
    contents: Mapping[str, Any] | None = None,
) -> str | None:
    """Say why a command has to be run, though it may have been before.

    Args:
        record: what the last time has left.
        settings: all that the result follows from.
        contents: identifies what is read, by its name. Contents that are recorded but not asked
            for now do no harm.

    Returns:
        The reason in words; ``None`` if a result is there that holds.
    """
    if record is None:
        return "not run yet"
    before = record["settings"]
    changes = [
        f"{name} was {before.get(name)!r} and is {value!r}"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if changes:
        return f"changed since the last time: {'; '.join(changes)}"
    if not record["finished"]:
        return "not finished the last time"
    known = record["contents"]
    other = [name for name, content in (contents or {}).items() if known.get(name) != content]
    return f"new or changed: {', '.join(other)}" if other else None


def read_record(path: Path, result: Path | None = None) -> Record | None:
    """Read the record of a command.

    Args:
        path: file of the record.
        result: file that a finished command has written.

    Returns:
        The record; ``None`` if there is none, or the result is no longer there.

    Raises:
        ValueError: if the record is damaged.
    """
    if not path.is_file() or (result is not None and not result.is_file()):
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not {"command", "settings", "contents", "finished"} <= set(record):
            raise ValueError("a field is missing")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and its command is run again"
        ) from error
    return dict(record)


def write_json(path: Path, content: object) -> None:
    """Write what JSON can hold, the file as a whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
