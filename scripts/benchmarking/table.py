"""Comparisons as a Markdown table for people, and as records for programs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from .paired import Comparison, Failure, Quartiles

HEADER = ("what", "ours", "other", "ours / other", "of processor time", "first call", "samples")


_REASON = 100
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OutOfMemoryError", "out of memory")
"""What JAX, PyTorch and CUDA say when a device has no memory left."""


def table(outcomes: Sequence[Comparison | Failure]) -> str:
    """Return one row a pair: medians with quartiles in brackets or a failure; remarks below."""
    rows = [HEADER, tuple("-" * len(title) for title in HEADER), *map(_row, outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    remarks = [
        f"{outcome.pair.name}: {outcome.remark}"
        for outcome in outcomes
        if isinstance(outcome, Comparison) and outcome.remark
    ]
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def reason(error: str) -> str:
    """Say in a few words what has failed.

    Args:
        error: message, with a traceback where there is one.
    """
    if any(words in error for words in OUT_OF_MEMORY):
        return "out of memory"
    last = error.strip().splitlines()[-1]
    return last if len(last) <= _REASON else f"{last[: _REASON - 3]}..."


def record(outcome: Comparison | Failure) -> dict[str, Any]:
    """Return all raw numbers of a comparison, or why there are none."""
    pair = outcome.pair
    of_pair = {"group": pair.group, "name": pair.name, "items": pair.items, "per": pair.per}
    if isinstance(outcome, Failure):
        return {**of_pair, "error": outcome.error}
    return {**of_pair, **_numbers(outcome)}


def format_ratio(found: Quartiles) -> str:
    """Return a median with its quartiles in brackets."""
    lower, median, upper = (f"{v:.2f}" if v >= 0.1 else f"{v:.2g}" for v in found)
    return f"{median} [{lower}, {upper}]"


def format_seconds(found: Quartiles) -> str:
    """Return a median of seconds with its quartiles in brackets, in a unit that fits."""
    unit, scale = _unit(found.median)
    lower, median, upper = (_digits(value * scale) for value in found)
    return f"{median} [{lower}, {upper}] {unit}"


def _numbers(comparison: Comparison) -> dict[str, Any]:
    pair = comparison.pair
    return {
        "sides": {
            name: {
                "label": side.label,
                "builder": side.builder,
                "options": dict(side.options),
                "environment": dict(side.environment),
                "samples": [dataclasses.asdict(sample) for sample in samples],
                "prepared": prepared,
            }
            for name, side, samples, prepared in zip(
                ("ours", "theirs"),
                (pair.ours, pair.theirs),
                (comparison.ours, comparison.theirs),
                [p and dataclasses.asdict(p) for p in comparison.prepared or (None, None)],
                strict=True,
            )
        },
        "ratio": comparison.ratio()._asdict(),
        "cpu_ratio": comparison.cpu_ratio()._asdict(),
        "remark": comparison.remark,
    }


def _row(outcome: Comparison | Failure) -> tuple[str, ...]:
    if isinstance(outcome, Failure):
        cells = (outcome.pair.name, f"failed: {reason(outcome.error)}")
        return cells + ("",) * (len(HEADER) - len(cells))
    return _measured_row(outcome)


def _measured_row(comparison: Comparison) -> tuple[str, ...]:
    pair = comparison.pair
    first = "in it"
    if comparison.prepared is not None:
        first = ", ".join(_duration(prepared.first) for prepared in comparison.prepared)
    return (
        pair.name,
        f"{pair.ours.label}: {format_seconds(comparison.seconds('ours'))} / {pair.per}",
        f"{pair.theirs.label}: {format_seconds(comparison.seconds('theirs'))} / {pair.per}",
        format_ratio(comparison.ratio()),
        format_ratio(comparison.cpu_ratio()),
        first,
        str(len(comparison.ours)),
    )


def _duration(seconds: float) -> str:
    unit, scale = _unit(seconds)
    return f"{_digits(seconds * scale)} {unit}"


def _unit(seconds: float) -> tuple[str, float]:
    return ("s", 1.0) if seconds >= 1 else ("ms", 1e3)


def _digits(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
