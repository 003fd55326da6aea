"""Best and worst images."""

import numpy as np
import pytest

from sempart_jax.evaluation import examples as examples_module
from sempart_jax.evaluation.examples import find_examples
from tests.evaluation.scenes import WHOLE, labelled, rectangle, red, score_red, write_pair


def examples_of(pairs):
    section, _ = score_red(pairs, "none", "guided")
    return find_examples(section, labelled(*pairs), red(), WHOLE)


def write_rows(folder, count):
    """Image ``i`` has ``i`` right rows of 10; every other one is predicted inverted."""
    masks = [rectangle(0, 0, i, 9) for i in range(count)]
    pairs = [
        write_pair(folder, f"{i:02d}", mask if i % 2 else ~mask, rectangle(0, 0, 10, 9))
        for i, mask in enumerate(masks)
    ]
    # Nothing to find and nothing found: no IoU.
    return [*pairs, write_pair(folder, "empty", rectangle(0, 0, 0, 0), rectangle(0, 0, 0, 0))]


def test_best_and_worst_are_in_order_and_show_the_chosen_side(tmp_path):
    examples = examples_of(write_rows(tmp_path, 10))
    assert (examples.dataset, examples.protocol, examples.chosen_by) == ("set", "whole", "none")
    # Ten have an IoU: five are the better half, the other five the worse.
    assert [example.name for example in examples.best] == ["09", "08", "07", "06", "05"]
    assert [example.name for example in examples.worst] == ["00", "01", "02", "03", "04"]
    best, inverted = examples.best[:2]
    assert best.iou["none"] == pytest.approx(0.9)
    assert best.object_size == pytest.approx(90 / 400)
    assert list(inverted.pictures) == ["image", "ground truth", *best.iou]
    assert list(best.iou) == ["none", "guided"]
    np.testing.assert_array_equal(inverted.pictures["none"], rectangle(0, 0, 8, 9))
    np.testing.assert_array_equal(inverted.pictures["ground truth"], rectangle(0, 0, 10, 9))
    assert inverted.pictures["image"].shape == (20, 20, 3)
    assert np.abs(inverted.pictures["guided"] - inverted.pictures["none"]).max() > 0


def test_twelve_of_each_of_many(tmp_path):
    few = examples_of(write_rows(tmp_path, 11))
    assert [len(few.best), len(few.worst)] == [6, 5]
    rng = np.random.default_rng(0)
    pairs = [
        write_pair(tmp_path, f"{i}", rng.random((6, 6)) > 0.6, rng.random((6, 6)) > 0.6)
        for i in range(30)
    ]
    examples = examples_of(pairs)
    ious = sorted(score_red(pairs)[0].scores["none"].iou_per_image)
    assert [example.iou["none"] for example in examples.worst] == ious[:12]
    assert [example.iou["none"] for example in examples.best] == ious[::-1][:12]


def test_pictures_are_kept_small_and_few_are_read_at_a_time(tmp_path, monkeypatch):
    pairs = write_rows(tmp_path, 10)
    whole = examples_of(pairs)
    monkeypatch.setattr(examples_module, "HELD_PIXELS", 400)
    monkeypatch.setattr(examples_module, "LONGEST_SIDE", 8)
    small = examples_of(pairs)
    for one, other in zip(small.best, whole.best, strict=True):
        assert (one.name, one.iou) == (other.name, other.iou)
        assert {picture.shape[:2] for picture in one.pictures.values()} == {(8, 8)}
        assert {picture.shape[:2] for picture in other.pictures.values()} == {(20, 20)}
    mean = small.best[0].pictures["none"].mean()
    assert mean == pytest.approx(whole.best[0].pictures["none"].mean(), abs=0.03)
