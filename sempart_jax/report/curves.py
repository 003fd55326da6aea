"""Curves of a section as SVG: precision and recall, F measure, IoU by object size."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sempart_jax.evaluation.results import CENTRE_BOX, SaliencySection
from sempart_jax.metrics.saliency import F_THRESHOLDS, SaliencyResult
from sempart_jax.report.tables import printable, title

SIZE_BINS = 20
"""Bins of object size in Fig. 6 to 8 of arXiv 2404.03392."""

# Blue, vermilion, green, purple, sky and orange that people with any colour vision can tell
# apart: Okabe and Ito (2008). The line style tells them apart in grey.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b9609a", "#56b4e9", "#c98a00")
BOX_COLOUR = "#808080"
_LINE_STYLES = ("-", (0, (5, 1.6)), (0, (5, 1.4, 1.2, 1.4)), (0, (1.2, 1.2)), (0, (8, 2)), "-")
_MARKERS = "osD^vP"
_WIDTH, _PLOT_HEIGHT, _LEGEND_LINE = 3.8, 2.65, 0.165  # inches
_LEFT, _TOP = 0.52, 0.1
_UNDER_AXIS = 0.45
_FAINT = "#8886"
_LABEL_LENGTH = 28


class SizeBins(NamedTuple):
    """Borders of the bins, from 0 to 1, number of images in each, and their mean IoU or NaN."""

    edges: Float[np.ndarray, " K+1"]
    images: Int[np.ndarray, " K"]
    iou: Float[np.ndarray, " K"]


def size_bins(
    object_sizes: Float[np.ndarray, " N"], ious: Float[np.ndarray, " N"], bins: int = SIZE_BINS
) -> SizeBins:
    """Average IoU in bins of object size (arXiv 2404.03392, Fig. 6 to 8).

    A bin holds its lower border; the last one holds 1 too. Images whose IoU is NaN are counted, but
    not averaged.
    """
    edges = np.arange(bins + 1) / bins
    # Borders in the precision of the sizes, or 0.7 in float32 would lie below its own border.
    borders = edges.astype(object_sizes.dtype)
    cells = np.minimum(np.searchsorted(borders, object_sizes, side="right") - 1, bins - 1)
    defined = ~np.isnan(ious)
    averaged = np.bincount(cells[defined], minlength=bins)
    sums = np.bincount(cells[defined], weights=ious[defined], minlength=bins)
    means = np.divide(sums, averaged, out=np.full(bins, np.nan), where=averaged > 0)
    return SizeBins(edges, np.bincount(cells, minlength=bins), means)


Lines = Sequence[tuple[str, SaliencyResult, dict[str, Any]]]
"""Key, result and style of each post-processing; the style marks where the F measure is best."""


def _precision_recall(axes: Axes, section: SaliencySection, lines: Lines) -> None:
    for _, result, style in lines:
        axes.plot(result.recall, result.precision, **style)
    axes.set(xlabel="recall", ylabel="precision")


def _f_curve(axes: Axes, section: SaliencySection, lines: Lines) -> None:
    for _, result, style in lines:
        axes.plot(F_THRESHOLDS, result.f_curve, **style)
    axes.set(xlabel="threshold", ylabel="F measure (beta² = 0.3)")


def _size_bins(axes: Axes, section: SaliencySection, lines: Lines) -> None:
    """Draw mean IoU, with gaps where a bin is empty, over bars of how many images a bin holds."""
    for key, _, style in lines:
        bins = size_bins(section.object_sizes, section.scores[key].iou_per_image)
        centres = 100 * (bins.edges[:-1] + bins.edges[1:]) / 2
        axes.plot(centres, bins.iou, **style | {"markersize": 3, "markevery": None})
    counts = axes.twinx()
    counts.bar(centres, bins.images, width=100 / SIZE_BINS * 0.86, color=_FAINT)
    counts.set_ylabel("images (bars)")
    counts.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    counts.spines[:].set_visible(False)
    counts.set_facecolor("none")
    counts.set_zorder(axes.get_zorder() - 1)
    axes.set(xlabel="object size, percent of the image", ylabel="mean IoU", xlim=(0, 100))


_Plot = Callable[[Axes, SaliencySection, Lines], None]
CHARTS: Mapping[str, tuple[_Plot, float]] = {
    "Precision and recall": (_precision_recall, 0.1),
    "F measure by threshold": (_f_curve, 0.1),
    "IoU by object size": (_size_bins, 0.42),
}
"""What is drawn of a section under which caption, and the inches that it takes at the right."""


def draw(section: SaliencySection, caption: str) -> str:
    """Draw one of :data:`CHARTS` as an SVG file, black on nothing."""
    plot, right = CHARTS[caption]
    # The box comes last, so that it lies over nothing in the legend's order of colours.
    keys = sorted(section.scores, key=lambda key: key == CENTRE_BOX)
    results = [section.scores[key].compute() for key in keys]
    lines = [
        (key, result, _style(key, number) | {"markevery": [int(np.argmax(result.f_curve))]})
        for number, (key, result) in enumerate(zip(keys, results, strict=True))
    ]
    legend_rows = math.ceil(len(keys) / 2)
    height = _PLOT_HEIGHT + _LEGEND_LINE * legend_rows
    settings: Any = {
        "svg.hashsalt": f"{section.dataset}/{section.protocol}/{caption}",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 8.5,
        "text.parse_math": False,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_WIDTH, height), facecolor="none")
        bottom = _UNDER_AXIS + _LEGEND_LINE * legend_rows
        width = 1 - (_LEFT + right) / _WIDTH
        frame = (_LEFT / _WIDTH, bottom / height, width, 1 - (bottom + _TOP) / height)
        axes = figure.add_axes(frame, facecolor="none")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        plot(axes, section, lines)
        axes.grid(visible=True, color=_FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=3)
        figure.legend(
            loc="lower center",
            ncols=2,
            frameon=False,
            fontsize=8,
            handlelength=2.6,
            columnspacing=1.2,
            labelspacing=0.35,
            borderaxespad=0.1,
        )
        text = io.StringIO()
        # Without these four the drawing holds a date, a version, and addresses.
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(text, metadata=metadata)
    return text.getvalue()


def _style(key: str, number: int) -> dict[str, Any]:
    label = printable(title(key))
    if len(label) > _LABEL_LENGTH:
        label = label[: _LABEL_LENGTH - 1] + "…"
    style = number % len(SERIES_COLOURS)
    shown: dict[str, Any] = {"label": label, "linewidth": 1.6, "markersize": 5}
    if key == CENTRE_BOX:
        return shown | {"color": BOX_COLOUR, "linestyle": (0, (2, 2)), "marker": "x"}
    shown |= {"color": SERIES_COLOURS[style], "linestyle": _LINE_STYLES[style]}
    return shown | {"marker": _MARKERS[style], "clip_on": False}
