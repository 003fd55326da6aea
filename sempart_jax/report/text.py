"""Tables of an evaluation as text: Markdown, and columns for a terminal."""

from collections.abc import Sequence

from sempart_jax.evaluation.results import Evaluation
from sempart_jax.report.tables import Table, comparison, further_scores, printable, summaries


def markdown_table(table: Table) -> str:
    """Render a table with its notes; rows of this evaluation are bold if others stand below."""
    bold = table.ours < len(table.rows)
    rules = ["---"] * table.text_columns
    rules += ["---:"] * (len(table.columns) - table.text_columns)
    lines = [_markdown_row(table.columns), _markdown_row(rules)]
    for number, row in enumerate(table.rows):
        mark = "**" * (bold and number < table.ours)
        lines.append(_markdown_row([f"{mark}{_escape(cell)}{mark}" for cell in row]))
    if table.notes:
        lines += ["", _items(table.notes)]
    return "\n".join(lines)


def markdown_document(evaluation: Evaluation) -> str:
    """Write every table of an evaluation beside the published numbers, as one document."""
    parts = [f"# {_escape(evaluation.title)}"]
    if evaluation.facts:
        parts.append(_items([f"{label}: {value}" for label, value in evaluation.facts.items()]))
    tables = [comparison(section) for section in evaluation.saliency]
    tables += [table for section in evaluation.saliency if (table := further_scores(section))]
    tables += [comparison(section) for section in evaluation.localization]
    for table in tables:
        parts += [f"## {_escape(table.title)}", markdown_table(table)]
    if evaluation.left_out:
        parts += ["## Left out", _items(evaluation.left_out)]
    return "\n\n".join(parts) + "\n"


def format_evaluation(evaluation: Evaluation) -> str:
    """Write the scores of an evaluation for a terminal, without published numbers."""
    parts = [_plain_table(table) for table in summaries(evaluation)]
    further = [further_scores(section) for section in evaluation.saliency]
    parts += [f"{table.title}\n{_plain_table(table)}" for table in further if table is not None]
    if evaluation.left_out:
        parts.append("\n".join(f"left out: {printable(line)}" for line in evaluation.left_out))
    return "\n\n".join(parts) or "nothing was scored"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _escape(text: str) -> str:
    text = " ".join(printable(text).split())
    for character in "\\`*[]<>|":
        text = text.replace(character, "\\" + character)
    return text


def _plain_table(table: Table) -> str:
    lines = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if column < table.text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    aligned.insert(1, "-" * max(map(len, aligned)))
    return "\n".join(aligned)
