"""The picture of a run's course."""

import json

import numpy as np
import pytest

from sempart_jax.report.training_curves import Curve, draw_curves, read_curves

BLUE = np.array([0x00, 0x72, 0xB2])


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


def height_of_ink(picture, side):
    """Mean row of the line's colour in the left or the right half of a plot's own picture."""
    half = picture.shape[1] // 2
    part = picture[:, :half] if side == "left" else picture[:, half:]
    rows, _ = np.nonzero((np.abs(part.astype(int) - BLUE) < 30).all(axis=2))
    return rows.mean()


def test_a_curve_falls_where_its_values_fall():
    falling, rising = draw_curves({"x": curve(3.0, 2.0, 1.0)}), draw_curves({"x": curve(1.0, 2.0)})
    assert height_of_ink(falling, "left") < height_of_ink(falling, "right")
    assert height_of_ink(rising, "left") > height_of_ink(rising, "right")


def test_each_curve_has_a_plot_of_its_own():
    five = {f"name_{number}": curve(1.0, 2.0) for number in range(5)}
    picture = draw_curves(five)
    assert picture.shape == (380, 1160, 3)
    inked = (np.abs(picture.astype(int) - BLUE) < 30).all(axis=2)
    cells = inked.reshape(2, 190, 4, 290).any(axis=(1, 3))
    assert cells.tolist() == [[True] * 4, [True, False, False, False]]


def test_one_point_and_what_is_not_finite_can_be_drawn():
    picture = draw_curves({"one": curve(2.0), "gap": curve(1.0, float("nan"), 2.0)})
    assert (np.abs(picture[:, :290].astype(int) - BLUE) < 30).all(axis=2).any()


def test_no_curves_are_refused():
    with pytest.raises(ValueError, match="nothing has been logged"):
        draw_curves({})
