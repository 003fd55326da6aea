"""Panels: what lies where, in which grey."""

import numpy as np
import pytest
from PIL import Image

from sempart_jax.report.panels import draw_panel, save_png


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


def test_masks_are_not_stretched_to_the_whole_grey_scale():
    mask = np.linspace(0.2, 0.3, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    inside = draw_panel({"fine": mask})[60:-30, 30:-30]
    assert inside.min() >= 50
    assert inside.max() <= 78


def test_values_outside_of_the_range_are_clipped_in_silence(caplog):
    picture = draw_panel({"image": plain([[1.7, -0.4, 0.0]]), "fine": plain([[2.0]])})
    assert cell(picture, 0, 0, 1, 2) == [255, 0, 0]
    assert cell(picture, 0, 1, 1, 2) == [255, 255, 255]
    assert not caplog.records


def test_pixels_are_not_blurred():
    mask = np.zeros((1, 2, 2, 1), np.float32)
    mask[0, 0, 0] = 1
    picture = draw_panel({"fine": mask})[40:-10, 10:-10]
    assert set(np.unique(picture)) == {0, 255}


def test_title_is_written_over_its_column():
    mask = plain([[1.0]])
    picture = draw_panel({"": mask, "fine": mask})
    assert picture[:28, :160].min() == 255
    assert picture[:28, 160:].min() < 100


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
