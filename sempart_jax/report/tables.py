"""Tables of an evaluation: what stands in them, whatever they are rendered to."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sempart_jax.evaluation.results import (
    CENTRE_BOX,
    Evaluation,
    LocalizationSection,
    SaliencySection,
)
from sempart_jax.report.published import SALIENCY_DATASETS, SOURCE, PublishedRow, find_rows

PUBLISHED_PROTOCOL = "crop320"
"""Protocol of the numbers that arXiv 2404.03392 measured itself."""
MISSING = "–"
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
_TITLES = {
    "none": "as predicted",
    "guided": "guided filter",
    "bilateral": "bilateral solver (24, 4, 4)",
    "bilateral_16_16_8": "bilateral solver (16, 16, 8)",
    "bilateral_unstated": "bilateral solver",
    CENTRE_BOX: "centre box",
    "dut_omron": "DUT-OMRON",
    "duts_te": "DUTS-TE",
    "ecssd": "ECSSD",
    "voc07": "VOC07",
    "voc12": "VOC12",
    "coco20k": "COCO20k",
    "accuracy": "Acc",
    "iou": "IoU",
    "max_f_beta": "max F",
    "mae": "MAE",
    "corloc": "CorLoc",
    "weighted_f": "weighted F",
    "s_measure": "S-measure",
    "max_e_measure": "max E-measure",
    "mean_e_measure": "mean E-measure",
    "crop320": "centre crop of 320 × 320 pixels (crop320)",
    "native": "whole images at their own size (native)",
    "boxes": "boxes as given (boxes)",
}
_FOREGROUND_RULES = {
    "batch": "masks of a batch are inverted where their common mean is above one half (batch)",
    "image": "a mask is inverted where its mean is above one half (image)",
    "none": "masks are taken as they are (none)",
}

Section = SaliencySection | LocalizationSection


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


def title(key: str) -> str:
    """Name a post-processing, data set, metric or protocol; an unknown key stands for itself."""
    return _TITLES.get(key, key)


def count(images: int, published_images: int | None) -> str:
    """Say how many images were scored, and of how many where it is not the whole data set."""
    whole = published_images is None or images == published_images
    return f"{images:,}" if whole else f"{images:,} of {published_images:,}"


def printable(text: str) -> str:
    r"""Write bytes of a file name that are no UTF-8 as ``\udcXX``: any text can be encoded then."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def section_title(section: Section) -> str:
    """Name data set and protocol of a section, and how many images it has."""
    images = _count(section)
    plural = "s" * (images != "1")
    return printable(f"{title(section.dataset)}, {title(section.protocol)}, {images} image{plural}")


def summaries(evaluation: Evaluation) -> list[Table]:
    """All scores of an evaluation, of masks and of boxes, a row a post-processing."""
    kinds: Mapping[str, Sequence[Section]] = {
        "Masks": evaluation.saliency,
        "Boxes": evaluation.localization,
    }
    tables = []
    for name, sections in kinds.items():
        rows = [
            (title(part.dataset), part.protocol, part.foreground_rule, _count(part), *row)
            for part in sections
            for row in _own_rows(part)
        ]
        if rows:
            head = ("data set", "protocol", "foreground", "images", "masks")
            tables.append(_table(name, head, _metrics(sections[0]), rows, len(rows)))
    return tables


def comparison(section: Section) -> Table:
    """The scores of a section above the published ones of its data set.

    Published rows of masks stand only beside protocol ``crop320``, which is theirs; a note says so
    where they are left out.
    """
    boxes = isinstance(section, LocalizationSection)
    notes = ["Percent of the images with an object whose box is right."] * boxes
    if section.protocol != "boxes":
        rule = section.foreground_rule
        notes.append(f"Foreground: {_FOREGROUND_RULES.get(rule, rule)}.")
    if " of " in _count(section):
        notes.append(
            f"Only {_count(section)} images were scored: these are not scores of the data set."
        )
    published = published_rows(section)
    if published:
        tables = "Table 2" if boxes else "Tables 1 and 5"
        notes.append(f"Published rows: {SOURCE}, {tables}.")
        notes += [f"Deep Spectral: {row.source}." for row in published if row.table is None]
        notes.append(_AUTHORS_NOTE)
    elif not boxes and section.dataset in SALIENCY_DATASETS:
        notes.append(
            f"Published numbers are left out: those of {SOURCE} are of protocol "
            f"{PUBLISHED_PROTOCOL}, not {section.protocol}."
        )
    if any(row.f_family == "per_image" for row in published):
        notes.append(_OTHER_F_NOTE)
    ours = [
        ("this evaluation", masks, section.protocol, *numbers)
        for masks, *numbers in _own_rows(section)
    ]
    rows = [*ours, *(_published_cells(row, section.dataset) for row in published)]
    head = ("method", "masks", "protocol")
    return _table(section_title(section), head, _metrics(section), rows, len(ours), notes)


def published_rows(section: Section) -> list[PublishedRow]:
    """Find the published rows that may stand beside a section, each once."""
    if isinstance(section, LocalizationSection):
        return list(find_rows(table=2, dataset=section.dataset))
    rows: dict[tuple[str, str, str], PublishedRow] = {}
    if section.protocol == PUBLISHED_PROTOCOL:
        for row in find_rows(dataset=section.dataset):
            if row.table in (None, 1, 5):
                rows.setdefault((row.method, row.evaluator, row.postprocessing), row)
    return list(rows.values())


def further_scores(section: SaliencySection) -> Table | None:
    """The scores of a section beyond those of the comparison; None where there are none."""
    scores = {key: vars(extra) for key, extra in section.extra.items()}
    if not scores:
        return None
    rows = [(title(key), *map(_number, values.values())) for key, values in scores.items()]
    notes = ["Masks rounded to 8 bits and stretched over all of [0, 1], as these scores demand."]
    name = f"Further scores, {section_title(section)}"
    return _table(name, ("masks",), next(iter(scores.values())), rows, len(rows), notes)


def _metrics(section: Section) -> Sequence[str]:
    boxes = isinstance(section, LocalizationSection)
    return ("corloc",) if boxes else ("accuracy", "iou", "max_f_beta", "mae")


def _own_rows(section: Section) -> Iterator[tuple[str, ...]]:
    """Give the name and the numbers of each post-processing."""
    if isinstance(section, LocalizationSection):
        for key, corloc in section.corloc.items():
            yield title(key), _number(corloc)
    else:
        for key, scores in section.scores.items():
            result = scores.compute()
            yield title(key), *(_number(getattr(result, name)) for name in _metrics(section))


def _published_cells(row: PublishedRow, dataset: str) -> tuple[str, ...]:
    scores = row.scores[dataset]
    protocol = "authors'" if row.evaluator == "authors" else PUBLISHED_PROTOCOL
    if "corloc" in scores:
        protocol = protocol if row.evaluator == "authors" else "not stated"
        return row.method, title(row.postprocessing), protocol, f"{scores['corloc']:.1f}"
    accuracy, iou, f_beta = (f"{value:.3f}" for value in scores.values())
    mark = OTHER_F_MARK if row.f_family == "per_image" else ""
    masks = title(row.postprocessing)
    return row.method, masks, protocol, accuracy, iou, f_beta + mark, MISSING


def _count(section: Section) -> str:
    images = section.images if isinstance(section, LocalizationSection) else len(section.names)
    return count(images, section.published_images)


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4f}"


def _table(
    name: str,
    words: tuple[str, ...],
    metrics: Iterable[str],
    rows: Iterable[Iterable[str]],
    ours: int,
    notes: Iterable[str] = (),
) -> Table:
    cells = tuple(tuple(map(printable, row)) for row in rows)
    columns = (*words, *map(title, metrics))
    return Table(name, columns, len(words), cells, ours, tuple(map(printable, notes)))
