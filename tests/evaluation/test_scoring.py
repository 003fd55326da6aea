"""Scores of images drawn for the purpose, with bad files among them."""

import logging

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.images import read_image
from sempart_jax.evaluation import scoring
from sempart_jax.evaluation.origin import Failure
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.sections import labelled_images
from sempart_jax.metrics.protocols import Protocol
from sempart_jax.predict.postprocessing import postprocess
from tests.evaluation.scenes import (
    labelled,
    rectangle,
    red,
    red_masks,
    score_red,
    write_pair,
)


def f_measure(precision, recall):
    return 1.3 * precision * recall / (0.3 * precision + recall)


def write_many(folder, count):
    rng = np.random.default_rng(1)
    return [
        write_pair(folder, f"{i:03d}", rng.uniform(size=(12, 12)), rng.random((12, 12)) > 0.7)
        for i in range(count)
    ]


def test_scores_are_exact(tmp_path):
    pairs = [
        # 4 x 4 = 16 against 4 x 8 = 32 pixels, 16 of them common
        write_pair(tmp_path, "half", rectangle(4, 4, 4, 4), rectangle(4, 4, 4, 8)),
        write_pair(tmp_path, "right", rectangle(0, 0, 5, 5), rectangle(0, 0, 5, 5)),
        write_pair(tmp_path, "wrong", rectangle(0, 0, 2, 2), rectangle(10, 10, 6, 6)),
        write_pair(tmp_path, "empty", rectangle(0, 0, 0, 0), rectangle(0, 0, 0, 0)),
    ]
    section, scorer = score_red(pairs)
    assert section.names == ("empty", "half", "right", "wrong")
    np.testing.assert_allclose(section.object_sizes, [0, 32 / 400, 25 / 400, 36 / 400])
    result = section.scores["none"].compute()
    f_beta = (f_measure(1, 0.5) + 1 + 0 + 1) / 4
    expected = [1 - (16 + 0 + 40 + 0) / 4 / 400, (0.5 + 1 + 0) / 3, f_beta]
    np.testing.assert_allclose([result.accuracy, result.iou, result.max_f_beta], expected)
    assert result.images == 4
    # The box covers rows and columns 4 to 15.
    box = section.scores[CENTRE_BOX].compute()
    accuracy = 1 - (112 + 167 + 108 + 144) / 4 / 400
    iou = (32 / 144 + 1 / 168 + 36 / 144 + 0) / 4
    f_beta = (f_measure(32 / 144, 1) + f_measure(1 / 144, 1 / 25) + f_measure(36 / 144, 1) + 0) / 4
    np.testing.assert_allclose([box.accuracy, box.iou, box.max_f_beta], [accuracy, iou, f_beta])
    assert tuple(scorer.seconds) == scoring.STAGES
    assert all(value > 0 for value in scorer.seconds.values())


def test_foreground_rule_is_applied(tmp_path):
    box = rectangle(2, 2, 4, 4)
    pairs = [write_pair(tmp_path, "inverted", ~box, box), write_pair(tmp_path, "plain", box, box)]
    by_image, _ = score_red(pairs)
    assert by_image.foreground_rule == "image"
    assert by_image.scores["none"].compute().iou == 1.0
    assert by_image.inverted.tolist() == [True, False]
    # The common mean of both is one half: nothing is inverted.
    for rule, of_both, of_first in (("batch", 0.5, 1.0), ("none", 0.5, 0.0)):
        for some, iou in ((pairs, of_both), (pairs[:1], of_first)):
            section, _ = score_red(some, rule=rule)
            assert section.foreground_rule == rule
            assert section.scores["none"].compute().iou == pytest.approx(iou)
    chosen, _ = score_red(pairs, origin=red(foreground_chosen=True))
    assert (chosen.foreground_rule, chosen.inverted.any()) == ("none", False)


def test_postprocessings_are_scored_side_by_side_on_the_chosen_side(tmp_path):
    box = rectangle(4, 4, 12, 12, size=40)
    values = np.rint(255 * (1 - 0.7 * box - 0.3 * np.random.default_rng(0).random((40, 40)))) / 255
    image, mask = write_pair(tmp_path, "a", values, box)
    names = ("none", "guided", "bilateral")
    section, _ = score_red([(image, mask)], *names)
    assert list(section.scores) == [*names, CENTRE_BOX]
    chosen = 1 - values.astype(np.float32)
    for name in names:
        expected = np.abs(postprocess(name, read_image(image), chosen) - box).mean()
        assert section.scores[name].compute().mae == pytest.approx(expected, rel=1e-6)
    assert len({scores.compute().mae for scores in section.scores.values()}) == 4


def test_crop_protocol_scores_the_crop_alone(tmp_path):
    truth = np.zeros((20, 40), bool)
    truth[:, 10:30] = True
    prediction = truth.copy()
    prediction[:, :10] = True  # wrong, but outside the middle 20 x 20
    crop = Protocol("crop", "none", resize_size=20, crop_size=20)
    section, _ = score_red([write_pair(tmp_path, "a", prediction, truth)], protocol=crop)
    assert section.scores["none"].compute().iou == 1.0
    assert section.object_sizes == [1.0]


def test_grey_ground_truth_is_cut_once_after_resizing(tmp_path):
    image, mask = write_pair(tmp_path, "a", np.zeros((4, 4)), np.zeros((4, 4), bool))
    # Cut first, 100 would be background and the means 127.5 at most; the true means are 175.
    grey = np.tile(np.array([[250, 100], [99, 251]], np.uint8), (2, 2))
    Image.fromarray(grey).save(mask)
    crop = Protocol("crop", "none", resize_size=2, crop_size=2)
    _, truth = labelled_images(labelled((image, mask)), crop).read(0)
    assert truth.all()


def test_bad_pairs_are_named_and_left_out(tmp_path, caplog):
    box = rectangle(2, 2, 4, 4)
    good, other_size, bad_image, bad_mask = (
        write_pair(tmp_path, name, box, box)
        for name in ("good", "other_size", "bad_image", "bad_mask")
    )
    Image.new("L", (10, 10)).save(other_size[1])
    bad_image[0].write_bytes(b"no image")
    bad_mask[1].unlink()
    with caplog.at_level(logging.WARNING, logger="absl"):
        section, scorer = score_red([other_size, bad_image, good, bad_mask])
    assert section.names == ("good",)
    assert section.scores["none"].compute().images == 1
    for line, path in zip(scorer.left_out, [bad_image[0], bad_mask[1], other_size[1]], strict=True):
        assert line.startswith("set, whole: ")
        assert str(path) in line
        assert f"left out: {line.removeprefix('set, whole: ')}" in caplog.text
    with pytest.raises(ValueError, match=r"none of the 2 images can be scored: .*bad_image\.png"):
        score_red([bad_image, bad_mask])


def test_a_strip_is_scored_whole_and_left_out_where_it_would_be_cropped(tmp_path):
    pairs = [
        write_pair(tmp_path, name, np.zeros((height, 2)), np.ones((height, 2)))
        for name, height in (("longest", 40), ("strip", 41))
    ]
    crop = Protocol("crop", "none", resize_size=10, crop_size=8)
    cropped, scorer = score_red(pairs, protocol=crop)
    assert cropped.names == ("longest",)
    (line,) = scorer.left_out
    assert "strip: 2x41 pixels: one side is more than 20 times the other" in line
    assert score_red(pairs)[0].names == ("longest", "strip")


@pytest.mark.parametrize("rule", ["batch", "image"])
def test_neither_parts_nor_few_pixels_at_a_time_change_the_scores(tmp_path, monkeypatch, rule):
    at_once = []

    def mostly_red(images, protocol):
        at_once.append(len(images))
        return [
            Failure(f"no {framed.name}") if framed.name in ("003", "017") else mask
            for framed, mask in zip(images, red_masks(images), strict=True)
        ]

    pairs = write_many(tmp_path, 29)
    pairs[5][1].write_bytes(b"nothing")
    origin = red(source=mostly_red)
    whole, left = score_red(pairs, origin=origin, rule=rule)
    assert at_once == [28]
    for limit, value, most in (
        ("PART_SIZE", 8, 8),
        # Five images of 12 x 12 pixels, no multiple of eight.
        ("HELD_PIXELS", 5 * 144, 5),
    ):
        at_once.clear()
        with monkeypatch.context() as patch:
            patch.setattr(scoring, limit, value)
            few, scorer = score_red(pairs, origin=origin, rule=rule)
        assert max(at_once) == most
        assert few.names == whole.names
        assert sorted(scorer.left_out) == sorted(left.left_out)
        np.testing.assert_array_equal(few.object_sizes, whole.object_sizes)
        np.testing.assert_array_equal(few.inverted, whole.inverted)
        for name, scores in whole.scores.items():
            ours, theirs = few.scores[name].compute(), scores.compute()
            assert ours.images == 26
            assert (ours.iou, ours.accuracy, ours.mae) == (
                theirs.iou,
                theirs.accuracy,
                theirs.mae,
            )
            np.testing.assert_array_equal(ours.f_curve, theirs.f_curve)
    assert set(whole.inverted.tolist()) == {True, False}
