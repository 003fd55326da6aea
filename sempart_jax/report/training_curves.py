"""The course of a run as one picture: a small plot of each number that it has logged."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

_COLUMNS = 4
_CELL_INCHES = (2.9, 1.9)
_DOTS_PER_INCH = 100


class Curve(NamedTuple):
    """A number in the course of a run.

    Attributes:
        steps: at which it was logged, in their order.
        values: mean since the step before, or of the step.
    """

    steps: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]


def read_curves(metrics: Path) -> dict[str, Curve]:
    """Read what a run has logged.

    Args:
        metrics: ``metrics.jsonl`` of the run, whose lines are whole.

    Returns:
        Curves by name, such as ``train/total``, in the order in which they first occur.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    with metrics.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            step = row.pop("step")
            for name, value in row.items():
                found.setdefault(name, []).append((step, value))
    return {
        name: Curve(np.array([s for s, _ in points]), np.array([v for _, v in points], np.float64))
        for name, points in found.items()
    }


def draw_curves(curves: Mapping[str, Curve]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw each curve over the steps in a plot of its own, whose title ends with its last value.

    Args:
        curves: by name.

    Returns:
        RGB picture.

    Raises:
        ValueError: there are none.
    """
    if not curves:
        raise ValueError("there are no curves to draw: nothing has been logged")
    # Only here: a training without panels needs no matplotlib.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from sempart_jax.report.curves import SERIES_COLOURS

    columns = min(_COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    size = (_CELL_INCHES[0] * columns, _CELL_INCHES[1] * rows)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, curve) in zip(cells, curves.items(), strict=False):
        # A run of one point is no line.
        marker = "o" if len(curve.steps) == 1 else ""
        axes.plot(curve.steps, curve.values, color=SERIES_COLOURS[0], linewidth=1.3, marker=marker)
        axes.set_title(f"{name}: {curve.values[-1]:.4g}", fontsize=9, parse_math=False)
        axes.tick_params(labelsize=7, length=2)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in cells[len(curves) :]:
        axes.set_axis_off()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
