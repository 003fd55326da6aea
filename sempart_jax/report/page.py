"""The report of an evaluation as one HTML page that needs no other file and no script."""

import html
from collections.abc import Mapping, Sequence

from sempart_jax.evaluation.results import Evaluation, Examples, SaliencySection
from sempart_jax.report.curves import draw_f_curve, draw_precision_recall, draw_size_bins
from sempart_jax.report.examples import example_strips
from sempart_jax.report.stylesheet import STYLESHEET
from sempart_jax.report.tables import (
    OTHER_F_MARK,
    Table,
    further_scores,
    localization_comparison,
    localization_summary,
    saliency_comparison,
    saliency_summary,
    section_title,
)
from sempart_jax.report.titles import printable

_CHARTS = (
    ("Precision and recall", draw_precision_recall),
    ("F measure by threshold", draw_f_curve),
    ("IoU by object size", draw_size_bins),
)
_NUMBER = ' class="number"'
_WHOLE = "total"
_UNACCOUNTED = "everything else"


def html_page(
    evaluation: Evaluation, examples: Sequence[Examples], versions: Mapping[str, str]
) -> str:
    """Write an evaluation as a page.

    Args:
        evaluation: what was found.
        examples: best and worst images, shown with the section of their data set and protocol.
        versions: package to version.

    Returns:
        HTML. Text from outside, such as names of files, is escaped.
    """
    title = _escape(evaluation.title)
    body = [f"<h1>{title}</h1>", _facts(evaluation.facts), _contents(evaluation)]
    summaries = [saliency_summary(evaluation), localization_summary(evaluation)]
    summaries = [table for table in summaries if table.rows]
    if summaries:
        body.append('<h2 id="summary">Summary</h2>')
        body += [f"<h3>{_escape(table.title)}</h3>\n{_table(table)}" for table in summaries]
    for number, section in enumerate(evaluation.saliency):
        body.append(_saliency_section(section, f"masks-{number}", examples))
    for number, boxes in enumerate(evaluation.localization):
        table = localization_comparison(boxes)
        body.append(f'<h2 id="boxes-{number}">{_escape(table.title)}</h2>\n{_table(table)}')
    if evaluation.seconds:
        body.append(f'<h2 id="time">Time</h2>\n{_times(evaluation.seconds)}')
    if evaluation.left_out:
        body.append(f'<h2 id="left-out">Left out</h2>\n{_items(evaluation.left_out)}')
    written_by = ", ".join(f"{name} {value}" for name, value in versions.items())
    body.append(f"<footer>Written with {_escape(written_by)}.</footer>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLESHEET}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def time_shares(seconds: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Split the time into shares.

    Args:
        seconds: time by stage; ``total`` is that of all of them and whatever else there was.

    Returns:
        Stage, seconds, and share in [0, 1] of the total, or of the sum where that is longer, as
        when stages run at once; what no stage accounts for comes last.
    """
    stages = {stage: value for stage, value in seconds.items() if stage != _WHOLE}
    accounted = sum(stages.values())
    total = max(seconds.get(_WHOLE, 0.0), accounted)
    if total > accounted:
        stages[_UNACCOUNTED] = total - accounted
    return [(stage, value, value / total if total else 0.0) for stage, value in stages.items()]


def _saliency_section(section: SaliencySection, anchor: str, examples: Sequence[Examples]) -> str:
    comparison = saliency_comparison(section)
    title = _escape(comparison.title)
    parts = [f'<h2 id="{anchor}">{title}</h2>', _table(comparison)]
    further = further_scores(section)
    if further is not None:
        parts.append(f"<h3>Further scores</h3>\n{_table(further)}")
    charts = "\n".join(
        f"<figure><figcaption>{caption}</figcaption>"
        f"{_labelled(draw(section), f'{caption}: {title}')}</figure>"
        for caption, draw in _CHARTS
    )
    parts.append(f'<h3>Curves</h3>\n<div class="charts">\n{charts}\n</div>')
    parts += [
        f"<h3>Examples</h3>\n{example_strips(shown)}"
        for shown in examples
        if (shown.dataset, shown.protocol) == (section.dataset, section.protocol)
    ]
    return "\n".join(parts)


def _labelled(svg: str, label: str) -> str:
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _facts(facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    pairs = "".join(
        f"<dt>{_escape(label)}</dt><dd>{_escape(value)}</dd>" for label, value in facts.items()
    )
    return f'<dl class="facts">{pairs}</dl>'


def _contents(evaluation: Evaluation) -> str:
    entries = [
        *((f"masks-{n}", section_title(part)) for n, part in enumerate(evaluation.saliency)),
        *((f"boxes-{n}", section_title(part)) for n, part in enumerate(evaluation.localization)),
        *([("time", "Time")] if evaluation.seconds else []),
        *([("left-out", "Left out")] if evaluation.left_out else []),
    ]
    links = "".join(f'<li><a href="#{anchor}">{_escape(text)}</a></li>' for anchor, text in entries)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""


def _table(table: Table) -> str:
    words = table.text_columns
    head = "".join(
        f'<th scope="col"{_NUMBER if column >= words else ""}>{_escape(cell)}</th>'
        for column, cell in enumerate(table.columns)
    )
    mixed = table.ours < len(table.rows)
    rows = []
    for number, row in enumerate(table.rows):
        marked = ' class="ours"' if mixed and number < table.ours else ""
        cells = "".join(f"<td>{_escape(cell)}</td>" for cell in row[:words])
        # On a narrow screen, where the heads are gone, each number shows its own.
        cells += "".join(
            f'<td{_NUMBER} data-head="{_escape(title)}">{_number(cell)}</td>'
            for title, cell in zip(table.columns[words:], row[words:], strict=True)
        )
        rows.append(f"<tr{marked}>{cells}</tr>")
    body = "\n".join(rows)
    # A focusable box can be scrolled by keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_escape(table.title)}">'
        f'<table class="scores"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
        "</div>" + (_items(table.notes, "notes") if table.notes else "")
    )


def _number(cell: str) -> str:
    """Hang a mark behind a number, so that the digits stay in their columns."""
    digits = cell.rstrip(OTHER_F_MARK)
    mark = f'<span class="mark">{OTHER_F_MARK}</span>' if digits != cell else ""
    return _escape(digits) + mark


def _times(seconds: Mapping[str, float]) -> str:
    rows = "\n".join(
        f'<tr><td>{_escape(stage)}</td><td class="number">{value:,.1f} s</td>'
        f'<td class="number">{share:.0%}</td>'
        f'<td><div class="share"><i style="width:{100 * share:.1f}%"></i></div></td></tr>'
        for stage, value, share in time_shares(seconds)
    )
    total = (
        f'<tr><td>{_WHOLE}</td><td class="number">{seconds[_WHOLE]:,.1f} s</td><td></td>'
        "<td></td></tr>"
        if _WHOLE in seconds
        else ""
    )
    return (
        '<div class="scroll"><table class="times"><thead><tr><th scope="col">stage</th>'
        '<th scope="col" class="number">time</th><th scope="col" class="number">share</th>'
        f"<td></td></tr></thead>\n<tbody>\n{rows}\n{total}</tbody></table></div>"
    )


def _items(lines: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{_escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if kind else f"<ul>{items}</ul>"


def _escape(text: str) -> str:
    return html.escape(printable(text))
