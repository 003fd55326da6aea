"""Best and worst images."""

import numpy as np
import pytest

from sempart_jax.evaluation import examples as examples_module
from sempart_jax.evaluation.evaluator import Evaluator
from sempart_jax.evaluation.origin import Origin
from tests.evaluation.scenes import WHOLE, RedMasks, labelled, rectangle, write_pair


def examples_of(folder, count, *, evaluator=None):
    """Image ``i`` has ``i`` right rows of 10; every other one is predicted inverted."""
    pairs = []
    for i in range(count):
        mask = rectangle(0, 0, i, 9)
        pairs.append(
            write_pair(folder, f"{i:02d}", mask if i % 2 else ~mask, rectangle(0, 0, 10, 9))
        )
    # Nothing to find and nothing found: no IoU.
    pairs.append(write_pair(folder, "empty", rectangle(0, 0, 0, 0), rectangle(0, 0, 0, 0)))
    evaluator = evaluator or Evaluator(postprocessings=("none", "guided"))
    source = RedMasks()
    _, find = evaluator.saliency("set", labelled(*pairs), Origin(source, {}), WHOLE)
    source.asked.clear()
    return find(), source


def test_best_and_worst_are_in_order(tmp_path):
    examples, source = examples_of(tmp_path, 10)
    assert (examples.dataset, examples.protocol, examples.chosen_by) == ("set", "whole", "none")
    # Ten have an IoU: five are the better half, the other five the worse.
    assert [example.name for example in examples.best] == ["09", "08", "07", "06", "05"]
    assert [example.name for example in examples.worst] == ["00", "01", "02", "03", "04"]
    assert len(source.asked) == 10
    best = examples.best[0]
    assert best.iou["none"] == pytest.approx(0.9)
    assert set(best.iou) == {"none", "guided"}
    assert best.object_size == pytest.approx(90 / 400)


def test_twelve_of_each_of_many(tmp_path):
    few, _ = examples_of(tmp_path, 11)
    assert [len(few.best), len(few.worst)] == [6, 5]
    (tmp_path / "more").mkdir()
    rng = np.random.default_rng(0)
    pairs = [
        write_pair(tmp_path / "more", f"{i}", rng.random((6, 6)) > 0.6, rng.random((6, 6)) > 0.6)
        for i in range(30)
    ]
    evaluator = Evaluator(postprocessings=("none",))
    section, find = evaluator.saliency("set", labelled(*pairs), Origin(RedMasks(), {}), WHOLE)
    examples = find()
    ious = sorted(section.scores["none"].iou_per_image)
    assert [example.iou["none"] for example in examples.worst] == ious[:12]
    assert [example.iou["none"] for example in examples.best] == ious[::-1][:12]


def test_pictures_show_the_chosen_side(tmp_path):
    examples, _ = examples_of(tmp_path, 10)
    inverted = examples.best[1]
    assert list(inverted.pictures) == ["image", "ground truth", "none", "guided"]
    np.testing.assert_array_equal(inverted.pictures["none"], rectangle(0, 0, 8, 9))
    np.testing.assert_array_equal(inverted.pictures["ground truth"], rectangle(0, 0, 10, 9))
    assert inverted.pictures["image"].shape == (20, 20, 3)
    assert np.abs(inverted.pictures["guided"] - inverted.pictures["none"]).max() > 0


def test_pictures_are_kept_small_and_few_are_read_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(examples_module, "HELD_PIXELS", 400)
    whole, _ = examples_of(tmp_path, 10)
    monkeypatch.setattr(examples_module, "LONGEST_SIDE", 8)
    small, _ = examples_of(tmp_path, 10)
    for one, other in zip(small.best, whole.best, strict=True):
        assert (one.name, one.iou) == (other.name, other.iou)
        assert {picture.shape[:2] for picture in one.pictures.values()} == {(8, 8)}
        assert {picture.shape[:2] for picture in other.pictures.values()} == {(20, 20)}
    mean = small.best[0].pictures["none"].mean()
    assert mean == pytest.approx(whole.best[0].pictures["none"].mean(), abs=0.03)
