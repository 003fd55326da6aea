"""The rows of ``metrics.jsonl``, also where a killed run or a disk has left some that are none."""

import json
from pathlib import Path
from typing import NamedTuple

from absl import logging


class Row(NamedTuple):
    """A line of the file.

    Attributes:
        step: number of the step.
        line: JSON without the end of the line.
    """

    step: int
    line: str


def read_rows(path: Path) -> list[Row]:
    """Read whole rows; lines that are none are left out, with a warning but for half a line."""
    rows = []
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            continue
        step = fields.get("step") if isinstance(fields, dict) else None
        if type(step) is int:
            rows.append(Row(step, line))
        else:
            logging.warning("%s: ignoring line %d, which has no step", path, number)
    return rows
