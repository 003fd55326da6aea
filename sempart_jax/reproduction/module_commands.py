"""Entry points of this package as recorded commands, and what could not be started at all."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sempart_jax.recorded_commands import Record, RecordedCommands


class ModuleCommands(RecordedCommands):
    """Runs entry points once each.

    Attributes:
        dry_run: whether commands are only shown.
        left_out: what could not be started and why, a line each.
    """

    def __init__(self, *, dry_run: bool = False) -> None:
        """Choose whether commands are only shown."""
        super().__init__(dry_run=dry_run)
        self.dry_run = dry_run
        self.left_out: list[str] = []

    def run_module(
        self,
        module: str,
        arguments: Sequence[str],
        path: Path,
        record: Record | None,
        settings: Mapping[str, str],
        contents: Mapping[str, Any] | None = None,
        is_complete: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Run ``python -m sempart_jax.MODULE ARGUMENTS``, see :meth:`RecordedCommands.run`."""
        command = [sys.executable, "-m", f"sempart_jax.{module}", *arguments]
        return self.run(path, record, command, settings, contents, is_complete)

    def leave_out(self, line: str) -> None:
        """Say what is not run, and why, in one line."""
        self.left_out.append(line)
        print(f"# not run: {line}", flush=True)
