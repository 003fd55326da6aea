"""Curves of a section as SVG: precision and recall, F measure, IoU by object size."""

import io
import math
import re
from collections.abc import Callable, Sequence
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
from sempart_jax.report.titles import postprocessing_title, printable

SIZE_BINS = 20
"""Bins of object size in Fig. 6 to 8 of arXiv 2404.03392."""

# Drawn in place of the colours that the page chooses by its theme.
_INK, _FAINT = "#010101", "#020202"
_THEME = {_INK: "currentColor", _FAINT: "var(--chart-faint, #8886)"}
# Blue, vermilion, green, purple, sky and orange that people with any colour vision can tell
# apart: Okabe and Ito (2008). The line style tells them apart in grey.
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b9609a", "#56b4e9", "#c98a00")
BOX_COLOUR = "#808080"
_LINE_STYLES = ("-", (0, (5, 1.6)), (0, (5, 1.4, 1.2, 1.4)), (0, (1.2, 1.2)), (0, (8, 2)), "-")
_MARKERS = "osD^vP"
_WIDTH, _PLOT_HEIGHT, _LEGEND_LINE = 3.8, 2.65, 0.165  # inches
_LEFT, _RIGHT, _TOP = 0.52, 0.1, 0.1
_UNDER_AXIS = 0.45
_LABEL_LENGTH = 28


class SizeBins(NamedTuple):
    """Mean IoU by object size.

    Attributes:
        edges: borders of the bins, from 0 to 1.
        images: number of images in each bin.
        iou: mean IoU of the images in each bin; NaN where there is none.
    """

    edges: Float[np.ndarray, " K+1"]
    images: Int[np.ndarray, " K"]
    iou: Float[np.ndarray, " K"]


def size_bins(
    object_sizes: Float[np.ndarray, " N"], ious: Float[np.ndarray, " N"], bins: int = SIZE_BINS
) -> SizeBins:
    """Average IoU in bins of object size (arXiv 2404.03392, Fig. 6 to 8).

    A bin holds its lower border; the last one holds 1 too.

    Args:
        object_sizes: fraction of foreground in each ground truth, in [0, 1].
        ious: intersection over union of each image; images where it is NaN are counted, but
            not averaged.
        bins: number of equal bins.

    Returns:
        Counts and means.

    Raises:
        ValueError: if the lengths differ or a size is not in [0, 1].
    """
    if object_sizes.shape != ious.shape:
        raise ValueError(
            f"{len(object_sizes)} object sizes and {len(ious)} IoUs: give one of each per image"
        )
    if not np.all((object_sizes >= 0) & (object_sizes <= 1)):
        raise ValueError(
            f"object sizes from {object_sizes.min()} to {object_sizes.max()} must lie in [0, 1]: "
            "they are fractions of the image, not pixels or percent"
        )
    edges = np.arange(bins + 1) / bins
    # Borders in the precision of the sizes, or 0.7 in float32 would lie below its own border.
    borders = edges.astype(object_sizes.dtype)
    cells = np.minimum(np.searchsorted(borders, object_sizes, side="right") - 1, bins - 1)
    defined = ~np.isnan(ious)
    averaged = np.bincount(cells[defined], minlength=bins)
    sums = np.bincount(cells[defined], weights=ious[defined], minlength=bins)
    means = np.divide(sums, averaged, out=np.full(bins, np.nan), where=averaged > 0)
    return SizeBins(edges, np.bincount(cells, minlength=bins), means)


def draw_precision_recall(section: SaliencySection) -> str:
    """Draw precision over recall; a mark shows where the F measure is best.

    Args:
        section: scores of one data set under one protocol.

    Returns:
        ``<svg>`` element without width and height, that takes its colours from the page.
    """

    def plot(axes: Axes, results: Sequence[tuple[str, SaliencyResult]]) -> None:
        for number, (key, result) in enumerate(results):
            best = int(np.argmax(result.f_curve))
            axes.plot(result.recall, result.precision, markevery=[best], **_style(key, number))
        axes.set(xlabel="recall", ylabel="precision")

    return _draw(section, "precision and recall", plot)


def draw_f_curve(section: SaliencySection) -> str:
    """Draw the F measure over the threshold; a mark shows where it is best.

    Args:
        section: scores of one data set under one protocol.

    Returns:
        As :func:`draw_precision_recall`.
    """

    def plot(axes: Axes, results: Sequence[tuple[str, SaliencyResult]]) -> None:
        for number, (key, result) in enumerate(results):
            best = int(np.argmax(result.f_curve))
            axes.plot(F_THRESHOLDS, result.f_curve, markevery=[best], **_style(key, number))
        axes.set(xlabel="threshold", ylabel="F measure (beta² = 0.3)")

    return _draw(section, "F measure by threshold", plot)


def draw_size_bins(section: SaliencySection) -> str:
    """Draw mean IoU by object size, over bars of how many images a bin holds.

    Args:
        section: scores of one data set under one protocol.

    Returns:
        As :func:`draw_precision_recall`. Where a bin is empty, the lines have a gap.
    """

    def plot(axes: Axes, results: Sequence[tuple[str, SaliencyResult]]) -> None:
        for number, (key, _) in enumerate(results):
            bins = size_bins(section.object_sizes, section.scores[key].iou_per_image)
            centres = 100 * (bins.edges[:-1] + bins.edges[1:]) / 2
            axes.plot(centres, bins.iou, **_style(key, number) | {"markersize": 3})
        counts = axes.twinx()
        counts.bar(centres, bins.images, width=100 / SIZE_BINS * 0.86, color=_FAINT)
        counts.set_ylabel("images (bars)", color=_INK)
        counts.tick_params(colors=_INK)
        counts.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        counts.spines[:].set_visible(False)
        counts.set_facecolor("none")
        counts.set_zorder(axes.get_zorder() - 1)
        axes.set(xlabel="object size, percent of the image", ylabel="mean IoU")
        axes.set_xlim(0, 100)

    return _draw(section, "IoU by object size", plot, right=0.42)


def _draw(
    section: SaliencySection,
    kind: str,
    plot: Callable[[Axes, Sequence[tuple[str, SaliencyResult]]], None],
    right: float = _RIGHT,
) -> str:
    # The box comes last, so that it lies over nothing in the legend's order of colours.
    keys = sorted(section.scores, key=lambda key: key == CENTRE_BOX)
    legend_rows = math.ceil(len(keys) / 2)
    height = _PLOT_HEIGHT + _LEGEND_LINE * legend_rows
    with mpl.rc_context(
        {
            "svg.hashsalt": f"{section.dataset}/{section.protocol}/{kind}",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 8.5,
            "text.parse_math": False,
        }
    ):
        figure = Figure(figsize=(_WIDTH, height), facecolor="none")
        bottom = _UNDER_AXIS + _LEGEND_LINE * legend_rows
        box = [_LEFT / _WIDTH, bottom / height]
        box += [1 - (_LEFT + right) / _WIDTH, 1 - (bottom + _TOP) / height]
        axes = figure.add_axes((box[0], box[1], box[2], box[3]), facecolor="none")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        plot(axes, [(key, section.scores[key].compute()) for key in keys])
        axes.grid(visible=True, color=_FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_INK)
        axes.tick_params(colors=_INK, length=3)
        axes.xaxis.label.set_color(_INK)
        axes.yaxis.label.set_color(_INK)
        figure.legend(
            loc="lower center",
            ncols=2,
            frameon=False,
            labelcolor=_INK,
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
    return _embeddable(text.getvalue())


def _style(key: str, number: int) -> dict[str, Any]:
    """Line of one post-processing; the colours of a page follow ``--series-N`` of its theme."""
    label = printable(postprocessing_title(key))
    if len(label) > _LABEL_LENGTH:
        label = label[: _LABEL_LENGTH - 1] + "…"
    shown: dict[str, Any] = {"label": label, "linewidth": 1.6, "markersize": 5}
    if key == CENTRE_BOX:
        return shown | {"color": BOX_COLOUR, "linestyle": (0, (2, 2)), "marker": "x"}
    style = number % len(SERIES_COLOURS)
    return shown | {
        "color": SERIES_COLOURS[style],
        "linestyle": _LINE_STYLES[style],
        "marker": _MARKERS[style],
        "clip_on": False,
    }


def _embeddable(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    # Fixed sides would keep the drawing from following the width of its column.
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    # A style element inside of the drawing would hold for the whole page.
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    root = 'font-family="sans-serif" stroke-linejoin="round" stroke-linecap="butt"'
    svg = svg.replace("<svg ", f"<svg {root} ", 1)
    svg = re.sub(r"font-family: [^;\"]*; ", "", svg)
    # Groups are numbered alike in every drawing, but an id may occur once in a page.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for number, colour in enumerate(SERIES_COLOURS):
        svg = svg.replace(colour, f"var(--series-{number}, {colour})")
    for placeholder, colour in _THEME.items():
        svg = svg.replace(placeholder, colour)
    return svg
