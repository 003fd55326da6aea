"""Evaluations behind the tables, each run once, and what they have found."""

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sempart_jax import __version__
from sempart_jax.recorded_commands import read_record, reason_to_run
from sempart_jax.report.reproduction import DATASETS
from sempart_jax.reproduction.module_commands import ModuleCommands

REPORT = "evaluation"
"""Folder of the report in that of what is scored."""
EVALUATED = "evaluated.json"
"""Record of an evaluation beside it."""


class Evaluations:
    """Scores masks and boxes from anywhere.

    Attributes:
        results: rows of ``results.json`` of each finished evaluation, by its folder under OUT and
            by ``saliency`` and ``localization``; of the data sets alone that were asked for.
    """

    def __init__(self, commands: ModuleCommands, *, data_root: Path, out: Path) -> None:
        """Choose where data and results lie.

        Args:
            commands: what runs them.
            data_root: folder that holds the data sets.
            out: folder of the results.
        """
        self._commands, self._data_root, self._out = commands, data_root, out
        self.results: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def score(
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
            source: flags of the evaluation that say what is scored.
            wanted: keys of data sets.
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
                self._commands.leave_out(f"{origin}: none of {', '.join(wanted)} is there")
                return
            # What was scored before stays in the report.
            there = _identified({*wanted, *(record or {}).get("contents", ())}, identify)
        arguments = [*source, "--data_root", str(self._data_root), "--datasets", ",".join(there)]
        for name, value in options.items():
            arguments += [f"--{name}", value]
        arguments += ["--report", str(folder / REPORT)]
        path = folder / EVALUATED
        done = self._commands.run_module("evaluate", arguments, path, record, settings, there)
        if done and not self._commands.dry_run:
            scored = json.loads(results.read_text(encoding="utf-8"))
            self.results[origin] = {
                kind: [row for row in scored[kind] if row["dataset"] in wanted]
                for kind in ("saliency", "localization")
            }


def _identified(names: Collection[str], identify: Callable[[str], Any]) -> dict[str, Any]:
    contents = {name: identify(name) for name in DATASETS if name in names}
    return {name: content for name, content in contents.items() if content is not None}
