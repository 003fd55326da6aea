"""Curves: bins against values worked out by hand, drawings by what they contain."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sempart_jax.report.curves import BOX_COLOUR, CHARTS, SERIES_COLOURS, draw, size_bins

from . import hand_made

PRECISION_RECALL, F_CURVE, SIZE_BINS = CHARTS


def lines(svg, colour):
    """Points of every path in a colour, in units of the drawing."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke: ([^;"]*)', svg)
    return [
        np.array(re.findall(r"[ML] (\S+) (\S+)", path), float)
        for path, ink in paths
        if ink == colour
    ]


def in_axes(points, svg):
    """Move points of a drawing to [0, 1] by the frame that its axes give."""
    frame = np.concatenate(lines(svg, "#000000"))
    left, right = frame[:, 0].min(), frame[:, 0].max()
    bottom, top = frame[:, 1].max(), frame[:, 1].min()
    return (points - [left, bottom]) / [right - left, (top - bottom) / 1.02]


def test_bins_by_hand():
    sizes = np.array([0.0, 0.24, 0.25, 0.5, 0.6, 1.0])
    bins = size_bins(sizes, np.array([0.2, 0.4, 0.5, 1.0, np.nan, 0.7]), bins=4)
    assert bins.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert bins.images.tolist() == [2, 1, 2, 1]
    np.testing.assert_allclose(bins.iou, [0.3, 0.5, 1.0, 0.7])
    # Empty bins, and bins without an IoU, have no mean.
    bins = size_bins(np.array([0.1, 0.9]), np.array([np.nan, 0.5]), bins=3)
    assert bins.images.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(bins.iou, [np.nan, np.nan, 0.5])
    assert size_bins(np.zeros(0), np.zeros(0)).images.sum() == 0


def test_twenty_bins_hold_their_lower_border_in_either_precision():
    for dtype in (np.float32, np.float64):
        borders = (np.arange(20) / 20).astype(dtype)
        bins = size_bins(borders, np.linspace(0, 1, 20))
        assert bins.images.tolist() == [1] * 20
        np.testing.assert_allclose(bins.iou, np.linspace(0, 1, 20))
    assert size_bins(np.array([1.0]), np.array([0.5])).images.tolist() == [0] * 19 + [1]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.integers(1, 25),
)
def test_no_image_is_lost_whatever_its_size(images, count):
    sizes, ious = np.array(images).T
    bins = size_bins(sizes, ious, bins=count)
    assert bins.images.sum() == len(images)
    np.testing.assert_allclose(np.nansum(bins.images * bins.iou), ious.sum(), atol=1e-9)
    for index in range(count):
        last = index == count - 1
        inside = (sizes >= index / count) & ((sizes < (index + 1) / count) | last)
        assert bins.images[index] == inside.sum()


def test_drawing_names_its_lines_and_is_the_same_each_time():
    section = hand_made.saliency_section()
    for caption in CHARTS:
        svg = draw(section, caption)
        assert draw(section, caption) == svg
        root = ET.fromstring(svg)
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        names = ("as predicted", "guided filter", "centre box")
        assert sorted(names, key=texts.index) == list(names)
        assert {*SERIES_COLOURS[:2], BOX_COLOUR} < set(re.findall(r"stroke: ([^;\"]*)", svg))
        # Marks on the border are not cut.
        for colour in SERIES_COLOURS[:2]:
            assert not re.search(rf"clip-path[^>]*{colour}", svg)


def test_lines_of_a_precision_and_recall():
    svg = draw(hand_made.saliency_section(), PRECISION_RECALL)
    # P of "none": .5, 1, 1; R: 1, .5, 1; one point for all thresholds.
    points = in_axes(lines(svg, SERIES_COLOURS[0])[0], svg)
    np.testing.assert_allclose(points, np.tile([2.5 / 3, 2.5 / 3], (len(points), 1)), atol=1e-4)


def test_lines_of_an_f_curve():
    soft = hand_made.scores(*(truth * np.float32(0.5) for truth in hand_made.GROUND_TRUTHS))
    section = dataclasses.replace(hand_made.saliency_section(), scores={"none": soft})
    svg = draw(section, F_CURVE)
    points = in_axes(lines(svg, SERIES_COLOURS[0])[0], svg)
    # Right below one half; above it nothing is found, which is right for the empty image alone.
    np.testing.assert_allclose(points[0], [0, 1], atol=1e-3)
    np.testing.assert_allclose(points[-1], [254 / 255, 1 / 3], atol=1e-3)
    step = np.flatnonzero(np.diff(points[:, 1]) < -0.5)
    np.testing.assert_allclose(points[step, 0], 127 / 255, atol=1e-3)


def test_bins_that_are_empty_are_gaps_over_bars_of_counts():
    section = dataclasses.replace(
        hand_made.saliency_section(),
        object_sizes=np.array([0.26, 0.31, 0.99]),
        scores={"none": hand_made.scores(hand_made.CORNER, hand_made.ALL, hand_made.ALL)},
    )
    svg = draw(section, SIZE_BINS)
    (line, *_) = lines(svg, SERIES_COLOURS[0])
    path = re.search(rf'<path d="([^"]*)"[^>]*stroke: {SERIES_COLOURS[0]}', svg).group(1)
    assert path.count("M") == 2
    points = in_axes(line, svg)
    np.testing.assert_allclose(points[:, 0], [0.275, 0.325, 0.975], atol=1e-3)
    np.testing.assert_allclose(points[:, 1], [1, 1, 0], atol=1e-3)
    bars = re.findall(r'<path d="([^"]*)"[^>]*style="fill: #888888', svg)
    heights = [np.ptp(np.array(re.findall(r"[ML] \S+ (\S+)", bar), float)) for bar in bars]
    assert len(bars) == 20
    assert [index for index, height in enumerate(heights) if height > 0] == [5, 6, 19]


def test_many_and_odd_keys_are_drawn():
    scores = hand_made.scores(*hand_made.GROUND_TRUTHS)
    keys = ["$x_1$", "a<b&c", "\udcff", *(f"number {n}" for n in range(6)), "long " * 20]
    section = dataclasses.replace(hand_made.saliency_section(), scores=dict.fromkeys(keys, scores))
    for caption in CHARTS:
        root = ET.fromstring(draw(section, caption))
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {"$x_1$", "a<b&c", "\\udcff", "number 5"} <= texts
        assert "long long long long long lo…" in texts
