"""What an accelerator reaches: rows of a table that appear one by one, and the aims."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .accelerator_work import WORKS
from .paired import quartiles
from .table import format_seconds, reason

COLUMNS = {
    "what": 34,
    "type": 13,
    "batch": 5,
    "seconds a call": 26,
    "images/s": 9,
    "from host": 9,
    "GFLOP/s": 9,
    "of bf16 rate": 12,
    "peak GiB": 8,
    "attention": 9,
    "compiled in": 11,
}
"""Columns and their widths: they must be known before the first row is."""

SHARE, RATE, DIFFERENCE = 0.35, 1500, 0.01
"""The aims: a training step with both tricks as a share of the rate of products in bfloat16,
inference with the guided filter in images a second, and the difference of the losses."""


def head() -> str:
    """Return the head of the table."""
    return f"{_line(COLUMNS)}\n{_line('-' * width for width in COLUMNS.values())}"


def row(record: Mapping[str, Any]) -> str:
    """Return the row of a work at one batch size, as :func:`work_record` makes it."""
    first = [WORKS[record["work"]], record["dtype"], str(record["batch"])]
    if "error" in record:
        return _line([*first, f"failed: {reason(record['error'])}"])
    if not record["fits"]:
        return _line([*first, "does not fit"])
    share, peak = record["share"], record["peak_bytes"]
    return _line(
        [
            *first,
            format_seconds(quartiles(record["seconds"])),
            _count(record["images_per_second"]),
            _count(record["host_images_per_second"]),
            _count(record["flops_per_second"] / 1e9),
            "" if share is None else f"{share:.1%}",
            "" if peak is None else f"{peak / 2**30:.2f}",
            "fused" if record["fused_attention"] else "XLA's",
            f"{record['compile_seconds']:.1f} s",
        ]
    )


def work_record(
    found: Mapping[str, Any], *, work: str, dtype: str, batch: int, flops: int, rate: float | None
) -> dict[str, Any]:
    """Put what was measured of a work and what follows from it together.

    Args:
        found: what ``measure_work`` returns.
        work: name of the work.
        dtype: one of ``sempart_programs.DTYPES``.
        batch: images a call.
        flops: operations for an image.
        rate: operations a second of products in bfloat16, ``None`` where not measured.
    """
    record = {"work": work, "dtype": dtype, "batch": batch, **found}
    if not found["fits"]:
        return record
    per_second, from_host = (
        batch / quartiles(found[name]).median for name in ("seconds", "host_seconds")
    )
    return {
        **record,
        "images_per_second": per_second,
        "host_images_per_second": from_host,
        "flops_per_second": per_second * flops,
        "share": None if rate is None else per_second * flops / rate,
    }


def describe_losses(found: Mapping[str, Mapping[str, Sequence[float]]], difference: float) -> str:
    """Return by how much losses and gradients of each type differ at most from float32's.

    Args:
        found: losses and gradients of each step, as ``compare_types`` returns them.
        difference: of the losses.
    """
    losses = found["float32"]["losses"]
    gradients = ", ".join(
        f"{dtype} {max(of_type['gradients']):.2%}"
        for dtype, of_type in found.items()
        if dtype != "float32"
    )
    return (
        f"{len(losses)} steps in float32, loss {losses[0]:.5f} to {losses[-1]:.5f}; from the same "
        f"states losses differ by {difference:.2%} at most, gradients by {gradients}"
    )


def aims(rows: Sequence[Mapping[str, Any]], difference: float | None) -> list[str]:
    """Return a line for each aim: what it is, what was reached, and whether that is enough.

    Args:
        rows: records of the table.
        difference: of the losses, if they were compared.
    """
    fitting = [record for record in rows if record.get("fits")]
    share = _best(fitting, "tricks", "share")
    rate = _best(fitting, "refined", "images_per_second")
    return [
        _aim(
            f"training step, both tricks, in bfloat16: at least {SHARE:.0%} of the bf16 rate",
            share and f"{share['share']:.1%}, {share['dtype']}, batch {share['batch']}",
            bool(share and share["share"] >= SHARE),
        ),
        _aim(
            f"inference with the guided filter: at least {RATE:,} images/s",
            rate
            and f"{rate['images_per_second']:,.0f} (from the host and back "
            f"{rate['host_images_per_second']:,.0f}), {rate['dtype']}, batch {rate['batch']}",
            bool(rate and rate["images_per_second"] >= RATE),
        ),
        _aim(
            f"losses of bfloat16 and float32 from one state: at most {DIFFERENCE:.0%} apart",
            None if difference is None else f"{difference:.2%}",
            # NaN is no aim met.
            difference is not None and difference <= DIFFERENCE,
        ),
    ]


def _best(rows: Sequence[Mapping[str, Any]], work: str, name: str) -> Mapping[str, Any] | None:
    wanted = [
        record
        for record in rows
        if record["work"] == work
        and record[name] is not None
        and (work == "refined" or record["dtype"] != "float32")
    ]
    return max(wanted, key=lambda record: float(record[name]), default=None)


def _aim(what: str, reached: str | None, met: bool) -> str:
    if reached is None:
        return f"{what}: not measured"
    return f"{what}: {reached}: {'met' if met else 'missed'}"


def _line(cells: Any) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, COLUMNS.values(), strict=False)]
    return f"| {' | '.join(padded)} |"


def _count(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f}"
