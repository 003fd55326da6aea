"""Panels: what lies where, in which grey; and the course of a run."""

import json

import numpy as np
import pytest
from PIL import Image

from sempart_jax.report.panels import Curve, draw_curves, draw_panel, read_curves, save_png

BLUE = np.array([0x00, 0x72, 0xB2])


def cell(picture, row, column, rows, columns):
    """Colour in the middle of a cell; titles take the top 30 pixels."""
    height = (picture.shape[0] - 30) / rows
    width = picture.shape[1] / columns
    return picture[int(30 + (row + 0.5) * height), int((column + 0.5) * width)].tolist()


def plain(values, size=4):
    """Images ``[B, size, size, C]`` of one value each."""
    values = np.asarray(values, np.float32)
    return np.broadcast_to(values[:, None, None], (len(values), size, size, values.shape[1]))


def test_rows_are_images_and_columns_kinds():
    images = plain([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    picture = draw_panel({"image": images, "fine": plain([[0.0], [1.0], [0.5]], size=7)})
    assert picture.dtype == np.uint8
    assert picture.shape == (3 * 160 + 30, 2 * 160, 3)
    for row, colour in enumerate([[255, 0, 0], [0, 255, 0], [0, 0, 255]]):
        assert cell(picture, row, 0, 3, 2) == colour
    assert cell(picture, 0, 1, 3, 2) == [0, 0, 0]
    assert cell(picture, 1, 1, 3, 2) == [255, 255, 255]
    np.testing.assert_allclose(cell(picture, 2, 1, 3, 2), 127.5, atol=1)


def test_values_outside_of_the_range_are_clipped_in_silence_and_pixels_not_blurred(caplog):
    picture = draw_panel({"image": plain([[1.7, -0.4, 0.0]]), "fine": plain([[2.0]])})
    assert cell(picture, 0, 0, 1, 2) == [255, 0, 0]
    assert cell(picture, 0, 1, 1, 2) == [255, 255, 255]
    # The title is written over its column.
    assert picture[:28, 160:].min() < 100
    mask = np.zeros((1, 2, 2, 1), np.float32)
    mask[0, 0, 0] = 1
    picture = draw_panel({"": mask})
    assert set(np.unique(picture[40:-10, 10:-10])) == {0, 255}
    assert picture[:28].min() == 255
    assert not caplog.records


def test_masks_are_not_stretched_to_the_whole_grey_scale():
    mask = np.linspace(0.2, 0.3, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    inside = draw_panel({"fine": mask})[60:-30, 30:-30]
    assert inside.min() >= 50
    assert inside.max() <= 78


@pytest.mark.parametrize(
    "lengths", [{}, {"image": 0}, {"image": 2, "fine": 1}, {"image": 1, "fine": 0}]
)
def test_columns_of_no_or_different_lengths_are_refused(lengths):
    columns = {title: np.zeros((count, 4, 4, 1), np.float32) for title, count in lengths.items()}
    with pytest.raises(ValueError, match="columns of one length above 0"):
        draw_panel(columns)


def test_png_is_written_whole_into_a_new_folder(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    path = tmp_path / "a" / "b" / "picture.png"
    save_png(picture, path)
    save_png(picture, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), picture)


def test_numbers_are_read_in_the_order_in_which_they_were_logged(tmp_path):
    rows = [
        {"step": 0, "validation/iou": 0.3},
        {"step": 10, "train/total": 4.0, "train/kl": 1.5},
        {"step": 20, "train/total": 3.0, "train/kl": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert list(curves) == ["validation/iou", "train/total", "train/kl"]
    assert curves["train/total"].steps.tolist() == [10, 20]
    assert curves["train/total"].values.tolist() == [4.0, 3.0]
    assert curves["validation/iou"].values.tolist() == [0.3]


def curve(*values):
    return Curve(np.arange(len(values)), np.array(values))


def inked(picture):
    return (np.abs(picture.astype(int) - BLUE) < 30).all(axis=2)


def test_a_curve_falls_where_its_values_fall():
    for values, sign in (((3.0, 2.0, 1.0), 1), ((1.0, 2.0), -1)):
        ink = inked(draw_curves({"x": curve(*values)}))
        left, right = (np.nonzero(half)[0].mean() for half in np.split(ink[:, :290], 2, axis=1))
        assert sign * (right - left) > 0


def test_each_curve_has_a_plot_of_its_own():
    # One point and what is not finite can be drawn, too.
    odd = {"one": curve(2.0), "gap": curve(1.0, float("nan"), 2.0, 2.0)}
    picture = draw_curves(odd | {f"name_{number}": curve(1.0, 2.0) for number in range(3)})
    assert picture.shape == (380, 1160, 3)
    cells = inked(picture).reshape(2, 190, 4, 290).any(axis=(1, 3))
    assert cells.tolist() == [[True] * 4, [True, False, False, False]]
    with pytest.raises(ValueError, match="nothing has been logged"):
        draw_curves({})
