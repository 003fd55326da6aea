"""Pictures of a training for people to look at: panels of masks, and the course of its numbers."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from sempart_jax.host.atomic_write import write_atomically

_CELL_INCHES = 1.6
_COLUMNS = 4
_PLOT_INCHES = (2.9, 1.9)
_DOTS_PER_INCH = 100


def draw_panel(
    columns: Mapping[str, Float[np.ndarray, "B _ _ _"] | Sequence[Float[np.ndarray, "_ _ _"]]],
) -> UInt8[np.ndarray, "H W 3"]:
    """Lay images and masks out as a grid: a row an image, a titled column a kind.

    Columns are images ``[B, h, w, 3]`` or masks ``[B, h, w, 1]`` in [0, 1], with the same ``B``, or
    lists of them; sizes may differ. A ValueError tells of columns that are empty or not alike.
    """
    rows = {len(images) for images in columns.values()}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(f"a panel needs columns of one length above 0, got {sorted(rows)}")
    # Only here: a training without panels needs no matplotlib.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (count,) = rows
    figure = Figure(
        figsize=(_CELL_INCHES * len(columns), _CELL_INCHES * count + 0.3), dpi=_DOTS_PER_INCH
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(count, len(columns), squeeze=False)
    top = 1 - 0.3 / figure.get_figheight()
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=top, wspace=0.03, hspace=0.03)
    for column, (title, images) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=9, pad=4)
        for row in range(count):
            axis = axes[row, column]
            image = np.clip(images[row], 0, 1)
            # Masks share one grey scale, or a nearly empty one would be stretched to look full.
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_axis_off()
            # Titles stand in one line, whatever the shape of the first image.
            axis.set_anchor("N")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


class Curve(NamedTuple):
    """A number in the course of a run: the steps at which it was logged, and its values."""

    steps: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]


def read_curves(metrics: Path) -> dict[str, Curve]:
    """Read the numbers of ``metrics.jsonl`` by name, in the order in which they first occur."""
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

    Raises:
        ValueError: there are none.
    """
    if not curves:
        raise ValueError("there are no curves to draw: nothing has been logged")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from sempart_jax.report.curves import SERIES_COLOURS

    columns = min(_COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    size = (_PLOT_INCHES[0] * columns, _PLOT_INCHES[1] * rows)
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


def save_png(picture: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Write an RGB picture; the folder is made if absent.

    Raises:
        WriteError: if it cannot be written.
    """
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    write_atomically(path, content.getvalue())
