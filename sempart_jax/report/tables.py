"""Tables of an evaluation: what stands in them, whatever they are rendered to."""

import dataclasses
import math

from sempart_jax.evaluation.results import Evaluation, LocalizationSection, SaliencySection
from sempart_jax.report.published import SALIENCY_DATASETS, SOURCE, PublishedRow, find_rows
from sempart_jax.report.scores import extra_scores
from sempart_jax.report.titles import (
    dataset_title,
    foreground_title,
    image_count,
    metric_title,
    postprocessing_title,
    printable,
    protocol_title,
)

PUBLISHED_PROTOCOL = "crop320"
"""Protocol of the numbers that arXiv 2404.03392 measured itself."""
_BOXES_PROTOCOL = "boxes"
OURS = "this evaluation"
MISSING = "–"
_SALIENCY_METRICS = ("accuracy", "iou", "max_f_beta")
OTHER_F_MARK = "†"
"""Behind an F measure that is not ours; a note says what it is."""
_OTHER_F_NOTE = (
    "† another measure: beta² = 0.09 and the maximum taken in each image, which gives higher "
    "numbers. Everything without a mark: beta² = 0.3 and the maximum of the mean curve. "
    "The two cannot be compared."
)
_AUTHORS_NOTE = (
    "authors': carried over from the method's own paper, whose protocol may differ; most score "
    "whole images at their own size."
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what the table shows, with protocol and number of images.
        columns: heads.
        text_columns: how many columns from the left hold words; the others hold numbers.
        rows: cells.
        ours: how many rows from the top are of this evaluation; the others are published.
        notes: what must be read with the numbers.
    """

    title: str
    columns: tuple[str, ...]
    text_columns: int
    rows: tuple[tuple[str, ...], ...]
    ours: int
    notes: tuple[str, ...] = ()


def section_title(section: SaliencySection | LocalizationSection) -> str:
    """Name data set and protocol of a section, and how many images it has."""
    images = section.images if isinstance(section, LocalizationSection) else len(section.names)
    return printable(
        f"{dataset_title(section.dataset)}, {protocol_title(section.protocol)}, "
        f"{image_count(images, section.published_images)}"
    )


def saliency_summary(evaluation: Evaluation) -> Table:
    """All mask scores of an evaluation, a row a post-processing, nothing published."""
    rows = tuple(
        (
            dataset_title(section.dataset),
            section.protocol,
            section.foreground_rule,
            _count(len(section.names), section.published_images),
            postprocessing_title(key),
            *_saliency_cells(section, key),
        )
        for section in evaluation.saliency
        for key in section.scores
    )
    columns = ("data set", "protocol", "foreground", "images", "masks")
    return _clean("Masks", (*columns, *_heads((*_SALIENCY_METRICS, "mae"))), 5, rows, len(rows))


def localization_summary(evaluation: Evaluation) -> Table:
    """All box scores of an evaluation, nothing published."""
    rows = tuple(
        (
            dataset_title(section.dataset),
            section.protocol,
            section.foreground_rule,
            _count(section.images, section.published_images),
            postprocessing_title(key),
            _number(corloc),
        )
        for section in evaluation.localization
        for key, corloc in section.corloc.items()
    )
    columns = ("data set", "protocol", "foreground", "images", "masks", metric_title("corloc"))
    return _clean("Boxes", columns, 5, rows, len(rows))


def saliency_comparison(section: SaliencySection) -> Table:
    """The scores of a section above the published ones of its data set.

    Published rows stand only beside protocol ``crop320``, which is theirs; a note says so where
    they are left out.
    """
    ours = [
        (OURS, postprocessing_title(key), section.protocol, *_saliency_cells(section, key))
        for key in section.scores
    ]
    notes = [f"Foreground: {foreground_title(section.foreground_rule)}."]
    notes += _subset_note(len(section.names), section.published_images)
    published: list[PublishedRow] = []
    if section.protocol == PUBLISHED_PROTOCOL:
        published = saliency_rows(section.dataset)
    elif section.dataset in SALIENCY_DATASETS:
        notes.append(
            f"Published numbers are left out: those of {SOURCE} are of protocol "
            f"{PUBLISHED_PROTOCOL}, not {section.protocol}."
        )
    if published:
        notes.append(f"Published rows: {SOURCE}, Tables 1 and 5.")
        notes += [f"Deep Spectral: {row.source}." for row in published if row.table is None]
        notes.append(_AUTHORS_NOTE)
    if any(row.f_family == "per_image" for row in published):
        notes.append(_OTHER_F_NOTE)
    rows = (*ours, *(_published_cells(row, section.dataset) for row in published))
    columns = ("method", "masks", "protocol", *_heads((*_SALIENCY_METRICS, "mae")))
    return _clean(section_title(section), columns, 3, rows, len(ours), notes)


def saliency_rows(dataset: str) -> list[PublishedRow]:
    """Published rows with accuracy, IoU and F measure on a data set, each once."""
    rows: dict[tuple[str, str, str], PublishedRow] = {}
    for row in find_rows(dataset=dataset):
        if row.table in (None, 1, 5):
            rows.setdefault((row.method, row.evaluator, row.postprocessing), row)
    return list(rows.values())


def localization_comparison(section: LocalizationSection) -> Table:
    """CorLoc of a section above the published numbers of its data set."""
    ours = [
        (OURS, postprocessing_title(key), section.protocol, _number(corloc))
        for key, corloc in section.corloc.items()
    ]
    rows = find_rows(table=2, dataset=section.dataset)
    published = [
        (
            row.method,
            postprocessing_title(row.postprocessing),
            "authors'" if row.evaluator == "authors" else "not stated",
            f"{row.scores[section.dataset]['corloc']:.1f}",
        )
        for row in rows
    ]
    notes = ["Percent of the images with an object whose box is right."]
    if section.protocol != _BOXES_PROTOCOL:
        notes.append(f"Foreground: {foreground_title(section.foreground_rule)}.")
    notes += _subset_note(section.images, section.published_images)
    if published:
        notes += [f"Published rows: {SOURCE}, Table 2.", _AUTHORS_NOTE]
    columns = ("method", "masks", "protocol", metric_title("corloc"))
    return _clean(section_title(section), columns, 3, (*ours, *published), len(ours), notes)


def further_scores(section: SaliencySection) -> Table | None:
    """The scores of a section beyond those of the comparison; None where there are none."""
    scores = {key: extra_scores(extra) for key, extra in section.extra.items()}
    if not scores:
        return None
    names = tuple(next(iter(scores.values())))
    rows = tuple(
        (postprocessing_title(key), *(_number(values[name]) for name in names))
        for key, values in scores.items()
    )
    title = f"Further scores, {section_title(section)}"
    notes = ("Masks rounded to 8 bits and stretched over all of [0, 1], as these scores demand.",)
    return _clean(title, ("masks", *_heads(names)), 1, rows, len(rows), notes)


def format_evaluation(evaluation: Evaluation) -> str:
    """Write the scores of an evaluation for a terminal, without published numbers."""
    tables = [saliency_summary(evaluation), localization_summary(evaluation)]
    parts = [_plain_table(table) for table in tables if table.rows]
    further = [further_scores(section) for section in evaluation.saliency]
    parts += [f"{table.title}\n{_plain_table(table)}" for table in further if table is not None]
    if evaluation.left_out:
        parts.append("\n".join(f"left out: {printable(line)}" for line in evaluation.left_out))
    return "\n\n".join(parts) or "nothing was scored"


def _saliency_cells(section: SaliencySection, key: str) -> tuple[str, ...]:
    result = section.scores[key].compute()
    return tuple(_number(getattr(result, metric)) for metric in (*_SALIENCY_METRICS, "mae"))


def _published_cells(row: PublishedRow, dataset: str) -> tuple[str, ...]:
    accuracy, iou, f_beta = (f"{row.scores[dataset][metric]:.3f}" for metric in _SALIENCY_METRICS)
    mark = OTHER_F_MARK if row.f_family == "per_image" else ""
    protocol = "authors'" if row.evaluator == "authors" else PUBLISHED_PROTOCOL
    masks = postprocessing_title(row.postprocessing)
    return row.method, masks, protocol, accuracy, iou, f_beta + mark, MISSING


def _subset_note(images: int, published_images: int | None) -> list[str]:
    if published_images is None or images == published_images:
        return []
    return [
        f"Only {image_count(images, published_images)} were scored: these are not scores of the "
        "data set."
    ]


def _count(images: int, published_images: int | None) -> str:
    return image_count(images, published_images).removesuffix("s").removesuffix(" image")


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4f}"


def _heads(metrics: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(metric_title(metric) for metric in metrics)


def _clean(
    title: str,
    columns: tuple[str, ...],
    text_columns: int,
    rows: tuple[tuple[str, ...], ...],
    ours: int,
    notes: list[str] | tuple[str, ...] = (),
) -> Table:
    cells = tuple(tuple(printable(cell) for cell in row) for row in rows)
    return Table(title, columns, text_columns, cells, ours, tuple(map(printable, notes)))


def _plain_table(table: Table) -> str:
    lines = [table.columns, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    aligned = [
        "  ".join(
            cell.ljust(width) if column < table.text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    aligned.insert(1, "-" * max(map(len, aligned)))
    return "\n".join(aligned)
