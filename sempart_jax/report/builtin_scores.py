"""The scores of the built-in model beside those of what it has to be better than."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.report.tables import MISSING, Table
from sempart_jax.report.titles import (
    dataset_title,
    image_count,
    metric_title,
    postprocessing_title,
    protocol_title,
)

DATASETS = ("ecssd", "duts_te")
_METRICS = ("iou", "accuracy", "max_f_beta")


class Scored(NamedTuple):
    """What one evaluation has found.

    Attributes:
        title: what was scored.
        short_side: short side in pixels at which it saw images.
        rows: rows ``saliency`` of its ``results.json``, of one protocol.
    """

    title: str
    short_side: int
    rows: Sequence[Mapping[str, Any]]


def builtin_scores(scored: Sequence[Scored]) -> Table:
    """Set evaluations of the same images beside one another.

    Args:
        scored: evaluations, in the order of the table.

    Returns:
        A row for the centre box, which is the same in all of them, and one for each evaluation and
        post-processing; columns for each metric of each data set, a dash where it was not scored.
    """
    found = [row for each in scored for row in each.rows]
    # The box knows neither network nor resolution: that of any evaluation is that of all.
    boxes = {r["dataset"]: r for r in found if r["postprocessing"] == CENTRE_BOX}
    rows = [(postprocessing_title(CENTRE_BOX), MISSING, MISSING, *_cells(boxes))] if boxes else []
    for title, short_side, each in scored:
        keys = dict.fromkeys(row["postprocessing"] for row in each)
        for key in (key for key in keys if key != CENTRE_BOX):
            cells = _cells({row["dataset"]: row for row in each if row["postprocessing"] == key})
            rows.append((title, f"{short_side} px", postprocessing_title(key), *cells))
    columns = [
        f"{dataset_title(d)} {metric_title(metric)}" for d in DATASETS for metric in _METRICS
    ]
    counts = {row["dataset"]: image_count(row["images"], row["published_images"]) for row in found}
    notes = [f"{dataset_title(name)}: {counts[name]}." for name in DATASETS if name in counts]
    protocols = dict.fromkeys(row["protocol"] for row in found)
    notes += [f"Scored: {protocol_title(protocol)}." for protocol in protocols]
    return Table(
        "Scores of the built-in model",
        ("masks of", "seen at a short side of", "masks", *columns),
        3,
        tuple(rows),
        len(rows),
        tuple(notes),
    )


def _cells(rows: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    values = [rows.get(dataset, {}).get(metric) for dataset in DATASETS for metric in _METRICS]
    return tuple(MISSING if value is None else f"{value:.4f}" for value in values)
