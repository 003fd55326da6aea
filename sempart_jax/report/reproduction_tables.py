"""Tables of the paper with ours beside every published number, and the difference."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sempart_jax.report.markdown import markdown_table
from sempart_jax.report.published import LOCALIZATION_DATASETS, SOURCE, PublishedRow, find_rows
from sempart_jax.report.reproduction import Candidate, candidates
from sempart_jax.report.tables import MISSING, OTHER_F_MARK, Table
from sempart_jax.report.titles import (
    dataset_title,
    image_count,
    metric_title,
    postprocessing_title,
)

TITLES = {
    1: "Unsupervised saliency segmentation",
    2: "Single object detection, CorLoc",
    3: "Tricks and backbones, IoU",
    4: "Tricks in single object detection, CorLoc",
    5: "Guided filter on masks of other methods",
}
"""What each table of the paper shows, by its number."""
_SUBSET_NOTE = "Ours is of a part of the data set: the difference is not of the method alone."
_OTHER_F_NOTE = (
    "The published F measure has beta² = 0.09 and each image's own maximum, ours beta² = 0.3 and "
    "the maximum of the mean curve: they have no difference."
)
_METHODS_NOTE = (
    "Ours from methods/ are computed here, where no argument says otherwise over the backbone of "
    "the published numbers: DINO ViT-S/16 for LOST and TokenCut, ViT-S/8 for Deep Spectral and "
    "FOUND."
)
_AUTHORS_NOTE = (
    "Published by authors: carried over from the method's own paper, whose protocol may differ; "
    "most score whole images at their own size (native)."
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One published row on one data set, with ours beside it.

    Attributes:
        row: the published row.
        dataset: key of the data set.
        candidate: where ours is from; ``None`` if there is nothing of ours.
        scores: that row of ``results.json``; empty if there is nothing of ours.
    """

    row: PublishedRow
    dataset: str
    candidate: Candidate | None = None
    scores: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def ours(self, metric: str) -> float | None:
        """Return our value of a metric, ``None`` if there is none."""
        value: float | None = self.scores.get(metric)
        return value

    def difference(self, metric: str) -> float | None:
        """Return ours minus published; ``None`` without ours or if the F measures differ."""
        value = self.ours(metric)
        if value is None or self.other_f(metric):
            return None
        return value - self.row.scores[self.dataset][metric]

    def other_f(self, metric: str) -> bool:
        """Say whether the published value is an F measure that ours cannot be held against."""
        return metric == "max_f_beta" and self.row.f_family == "per_image"

    @property
    def is_subset(self) -> bool:
        """Say whether ours is of other images than the whole data set."""
        published = self.scores.get("published_images")
        return published is not None and published != self.scores["images"]


def compare(
    table: int, datasets: Sequence[str], results: Mapping[str, Mapping[str, Any]]
) -> list[Line]:
    """Put ours beside every row of a table.

    Args:
        table: number of the table.
        datasets: keys of the data sets that are asked for.
        results: contents of ``results.json`` by :attr:`Candidate.origin`.

    Returns:
        A line for each row, data set and evaluation of it; one without ours where there is none.
    """
    lines: list[Line] = []
    for row in find_rows(table=table):
        for dataset in row.scores:
            if dataset not in datasets:
                continue
            found = [
                Line(row, dataset, candidate, scores)
                for candidate in candidates(row, dataset)
                if candidate.origin in results
                for scores in _matching(results[candidate.origin], row, dataset, candidate)
            ]
            lines += found or [Line(row, dataset)]
    return lines


def _matching(
    results: Mapping[str, Any], row: PublishedRow, dataset: str, candidate: Candidate
) -> list[Mapping[str, Any]]:
    wanted = {
        "dataset": dataset,
        "protocol": candidate.protocol,
        "postprocessing": row.postprocessing,
    }
    rows = results["localization" if dataset in LOCALIZATION_DATASETS else "saliency"]
    return [scores for scores in rows if all(scores[key] == wanted[key] for key in wanted)]


def line_records(table: int, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """List the numbers of a table in rows that JSON can hold, one for each line and metric."""
    return [
        {
            "table": table,
            "method": line.row.method,
            "backbone": line.row.backbone,
            "crop": line.row.crop,
            "postprocessing": line.row.postprocessing,
            "dataset": line.dataset,
            "metric": metric,
            "ours": line.ours(metric),
            "published": published,
            "difference": line.difference(metric),
            "origin": line.candidate and line.candidate.origin,
            "protocol": line.candidate and line.candidate.protocol,
            "foreground_rule": line.scores.get("foreground_rule"),
            "images": line.scores.get("images"),
            "published_images": line.scores.get("published_images"),
            "published_by": line.row.evaluator,
            "notes": [_SUBSET_NOTE] * line.is_subset + [_OTHER_F_NOTE] * line.other_f(metric),
        }
        for line in lines
        for metric, published in line.row.scores[line.dataset].items()
    ]


def tables_document(
    lines: Mapping[int, Sequence[Line]],
    *,
    train_args: str = "",
    method_args: str = "",
    remarks: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Write tables as one Markdown document.

    Args:
        lines: lines of each table by its number; a table without lines is left out.
        train_args: further arguments that every training had.
        method_args: further arguments that every evaluation of a method over a frozen backbone had.
        remarks: lines by their title, such as what was not run.
    """
    parts = [
        f"# Tables of {SOURCE} with ours beside them",
        f"The difference is ours minus published; {MISSING} stands where there is none.",
    ]
    if train_args:
        parts.append(f"Every training had these further arguments: `{train_args}`")
    if method_args:
        parts.append(f"Every method in methods/ had these further arguments: `{method_args}`")
    tables = [comparison_table(number, found) for number, found in lines.items() if found]
    for table in tables:
        parts += [f"## {table.title}", markdown_table(table)]
    for title, entries in (remarks or {}).items():
        if entries:
            parts += [f"## {title.capitalize()}", "\n".join(f"- `{line}`" for line in entries)]
    return "\n\n".join(parts) + "\n"


def comparison_table(number: int, lines: Sequence[Line]) -> Table:
    """Lay out a table of the paper with ours beside it.

    Args:
        number: number of the table.
        lines: its lines, at least one.

    Returns:
        A table whose difference is ours minus published.
    """
    metrics = tuple(next(iter(lines[0].row.scores.values())))
    columns = ["method", "masks", "data set", "images", "protocol", "ours from", "published by"]
    text_columns = len(columns)
    for title in map(metric_title, metrics):
        columns += [title, f"{title} published", "difference"]
    notes = [_SUBSET_NOTE] * any(line.is_subset for line in lines)
    if any(line.other_f("max_f_beta") for line in lines):
        notes.append(f"{OTHER_F_MARK} {_OTHER_F_NOTE}")
    if any(line.candidate and line.candidate.over_frozen for line in lines):
        notes.append(_METHODS_NOTE)
    if any(line.row.evaluator == "authors" for line in lines):
        notes.append(_AUTHORS_NOTE)
    rows = tuple(_cells(line, metrics) for line in lines)
    title = f"Table {number} of {SOURCE}: {TITLES[number]}"
    return Table(title, tuple(columns), text_columns, rows, len(rows), tuple(notes))


def _cells(line: Line, metrics: Sequence[str]) -> tuple[str, ...]:
    row, candidate = line.row, line.candidate
    images = MISSING
    if candidate is not None:
        images = image_count(line.scores["images"], line.scores["published_images"])
    cells = [
        row.method if row.backbone is None else _ablation_title(row),
        postprocessing_title(row.postprocessing),
        dataset_title(line.dataset),
        images.removesuffix("s").removesuffix(" image"),
        MISSING if candidate is None else candidate.protocol,
        MISSING if candidate is None else candidate.origin,
        row.evaluator,
    ]
    for metric in metrics:
        mark = OTHER_F_MARK if line.other_f(metric) else ""
        cells += [
            format_value(metric, line.ours(metric)),
            format_value(metric, row.scores[line.dataset][metric]) + mark,
            format_difference(metric, line.difference(metric)),
        ]
    return tuple(cells)


def _ablation_title(row: PublishedRow) -> str:
    tricks = ["Crop"] * bool(row.crop) + ["GF"] * (row.postprocessing == "guided")
    return f"{row.backbone}: {' + '.join(tricks) or 'no trick'}"


def format_value(metric: str, value: float | None) -> str:
    """Write a score with the digits of the published one, a dash if there is none."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.{_digits(metric)}f}"


def format_difference(metric: str, value: float | None) -> str:
    """Write a difference with its sign; what rounds to zero has none."""
    if value is None or math.isnan(value):
        return MISSING
    digits = _digits(metric)
    # Adding zero takes the sign off a negative zero.
    rounded = round(value, digits) + 0.0
    return f"{rounded:+.{digits}f}" if rounded else f"{rounded:.{digits}f}"


def _digits(metric: str) -> int:
    return 1 if metric == "corloc" else 3
