"""The report of an evaluation as one HTML page that needs no other file and no script."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from sempart_jax.evaluation.results import Evaluation, Example, Examples, SaliencySection
from sempart_jax.report.curves import CHARTS, draw
from sempart_jax.report.stylesheet import STYLESHEET
from sempart_jax.report.tables import (
    OTHER_F_MARK,
    Table,
    comparison,
    further_scores,
    printable,
    section_title,
    summaries,
    title,
)

STRIPS = 12
"""Images shown from either end."""
_LONGEST_SIDE, _QUALITY = 224, 80  # of the pictures of an example


def html_page(
    evaluation: Evaluation, examples: Sequence[Examples], versions: Mapping[str, str]
) -> str:
    """Write an evaluation as a page; text from outside, such as names of files, is escaped."""
    name = _escape(evaluation.title)
    entries: list[tuple[str, str]] = []
    parts: list[str] = []

    def start(anchor: str, heading: str, *content: str) -> None:
        entries.append((anchor, heading))
        parts.extend([f'<h2 id="{anchor}">{_escape(heading)}</h2>', *content])

    tables = summaries(evaluation)
    if tables:
        parts.append('<h2 id="summary">Summary</h2>')
        parts += [f"<h3>{_escape(table.title)}</h3>\n{_table(table)}" for table in tables]
    for number, section in enumerate(evaluation.saliency):
        start(f"masks-{number}", section_title(section), *_saliency(section, examples))
    for number, boxes in enumerate(evaluation.localization):
        start(f"boxes-{number}", section_title(boxes), _table(comparison(boxes)))
    if evaluation.seconds:
        start("time", "Time", _table(_times(evaluation.seconds)))
    if evaluation.left_out:
        start("left-out", "Left out", f"<ul>{_items(evaluation.left_out)}</ul>")
    facts = "".join(
        f"<dt>{_escape(label)}</dt><dd>{_escape(value)}</dd>"
        for label, value in evaluation.facts.items()
    )
    links = "".join(f'<li><a href="#{anchor}">{_escape(text)}</a></li>' for anchor, text in entries)
    written_by = ", ".join(f"{package} {value}" for package, value in versions.items())
    body = [
        f"<h1>{name}</h1>",
        f'<dl class="facts">{facts}</dl>' * bool(facts),
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>' * bool(links),
        *parts,
        f"<footer>Written with {_escape(written_by)}.</footer>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLESHEET}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body>\n</html>\n"
    )


def _saliency(section: SaliencySection, examples: Sequence[Examples]) -> Iterable[str]:
    yield _table(comparison(section))
    further = further_scores(section)
    if further is not None:
        yield f"<h3>Further scores</h3>\n{_table(further)}"
    charts = []
    for caption in CHARTS:
        drawing = _image("svg+xml", draw(section, caption).encode())
        alternative = f"{caption}: {_escape(section_title(section))}"
        charts.append(
            f"<figure><figcaption>{caption}</figcaption>"
            f'<img {drawing} alt="{alternative}"></figure>'
        )
    drawn = "\n".join(charts)
    yield f'<h3>Curves</h3>\n<div class="charts">\n{drawn}\n</div>'
    for shown in examples:
        if (shown.dataset, shown.protocol) == (section.dataset, section.protocol):
            yield f"<h3>Examples</h3>\n{example_strips(shown)}"


def _table(table: Table) -> str:
    words, mixed = table.text_columns, table.ours < len(table.rows)
    columns = [_escape(column) for column in table.columns]
    head = "".join(f'<th scope="col">{column}</th>' for column in columns[:words])
    head += "".join(f'<th scope="col" class="number">{column}</th>' for column in columns[words:])
    rows = []
    for number, row in enumerate(table.rows):
        cells = "".join(f"<td>{_escape(cell)}</td>" for cell in row[:words])
        # On a narrow screen, where the heads are gone, each number shows its own.
        cells += "".join(
            f'<td class="number" data-head="{column}">{_number(cell)}</td>'
            for column, cell in zip(columns[words:], row[words:], strict=True)
        )
        marked = ' class="ours"' if mixed and number < table.ours else ""
        rows.append(f"<tr{marked}>{cells}</tr>")
    body = "\n".join(rows)
    # A focusable box can be scrolled by keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_escape(table.title)}">'
        f'<table class="scores"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
        "</div>" + f'<ul class="notes">{_items(table.notes)}</ul>' * bool(table.notes)
    )


def _number(cell: str) -> str:
    """Hang a mark behind a number, so that the digits stay in their columns."""
    digits = cell.rstrip(OTHER_F_MARK)
    mark = f'<span class="mark">{OTHER_F_MARK}</span>' if digits != cell else ""
    return _escape(digits) + mark


def _times(seconds: Mapping[str, float]) -> Table:
    """Show the seconds of each stage and of the whole, which is the longest."""
    whole = max(*seconds.values(), 1e-9)
    rows = tuple((stage, f"{s:,.1f} s", f"{s / whole:.0%}") for stage, s in seconds.items())
    return Table("Time", ("stage", "time", "share"), 1, rows, len(rows))


def example_strips(examples: Examples) -> str:
    """Show the first :data:`STRIPS` best and worst images of a section in two foldable blocks."""
    chosen_by = _escape(title(examples.chosen_by))
    blocks = []
    for kind, images in (("best", examples.best), ("worst", examples.worst)):
        shown = images[:STRIPS]
        if shown:
            strips = "\n".join(map(_strip, shown))
            blocks.append(
                f'<details open class="examples"><summary>The {len(shown)} {kind} by IoU, '
                f"{chosen_by}</summary>\n{strips}\n</details>"
            )
    return "\n".join(blocks)


def _strip(example: Example) -> str:
    name, size = _escape(example.name), example.object_size
    percent = f"{100 * size:.{0 if size >= 0.1 else 1}f} %"
    figures = []
    for key, picture in example.pictures.items():
        caption = shown = _escape(title(key))
        alternative = f"{shown}: {name}"
        if key in example.iou:
            iou = example.iou[key]
            score = "IoU –" if math.isnan(iou) else f"IoU {iou:.3f}"
            caption, alternative = f"{shown} <b>{score}</b>", f"{alternative}, {score}"
        source = _image("jpeg", encode_jpeg(picture))
        height, width = picture.shape[:2]
        figures.append(
            f'<figure><img {source} alt="{alternative}" '
            f'width="{width}" height="{height}"><figcaption>{caption}</figcaption></figure>'
        )
    return (
        f'<section class="strip"><h4>{name} <small>object {percent} of the image</small></h4>'
        f'<div class="pictures">{"".join(figures)}</div></section>'
    )


def _image(kind: str, content: bytes) -> str:
    return f'src="data:image/{kind};base64,{base64.b64encode(content).decode("ascii")}"'


def encode_jpeg(picture: Shaped[np.ndarray, "H W *C"]) -> bytes:
    """Encode a picture as JPEG, no side longer than a column of a page needs.

    Args:
        picture: RGB ``[H, W, 3]`` in uint8, or a mask ``[H, W]`` in [0, 1] or boolean.
    """
    if picture.dtype != np.uint8:
        picture = np.rint(np.clip(picture, 0, 1).astype(np.float32) * 255).astype(np.uint8)
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{_escape(line)}</li>" for line in lines)


def _escape(text: str) -> str:
    return html.escape(printable(text))
