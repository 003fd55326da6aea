"""Tables of an evaluation as Markdown."""

from collections.abc import Sequence

from sempart_jax.evaluation.results import Evaluation
from sempart_jax.report.tables import (
    Table,
    further_scores,
    localization_comparison,
    saliency_comparison,
)
from sempart_jax.report.titles import printable


def markdown_table(table: Table) -> str:
    """Render a table with its notes; rows of this evaluation are bold if others stand below."""
    bold = table.ours < len(table.rows)
    rules = ["---"] * table.text_columns
    rules += ["---:"] * (len(table.columns) - table.text_columns)
    lines = [_markdown_row(table.columns), _markdown_row(rules)]
    for number, row in enumerate(table.rows):
        cells = [_escape(cell) for cell in row]
        if bold and number < table.ours:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(_markdown_row(cells))
    if table.notes:
        lines += ["", *(f"- {_escape(note)}" for note in table.notes)]
    return "\n".join(lines)


def markdown_document(evaluation: Evaluation) -> str:
    """Write every table of an evaluation beside the published numbers, as one document."""
    parts = [f"# {_escape(printable(evaluation.title))}"]
    parts += [
        "\n".join(
            f"- {_escape(printable(label))}: {_escape(printable(value))}"
            for label, value in evaluation.facts.items()
        )
    ] * bool(evaluation.facts)
    tables = [saliency_comparison(section) for section in evaluation.saliency]
    tables += [table for section in evaluation.saliency if (table := further_scores(section))]
    tables += [localization_comparison(section) for section in evaluation.localization]
    for table in tables:
        parts += [f"## {_escape(table.title)}", markdown_table(table)]
    if evaluation.left_out:
        lines = "\n".join(f"- {_escape(printable(line))}" for line in evaluation.left_out)
        parts += ["## Left out", lines]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    text = " ".join(text.split())
    for character in "\\`*[]<>|":
        text = text.replace(character, "\\" + character)
    return text
