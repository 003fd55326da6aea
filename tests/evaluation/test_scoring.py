"""Scores of images drawn for the purpose, with bad files among them."""

import logging

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.images import read_image
from sempart_jax.evaluation import scoring
from sempart_jax.evaluation.mask_tally import saliency_set
from sempart_jax.evaluation.masks import Failure
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.scored import STAGES
from sempart_jax.evaluation.scoring import score
from sempart_jax.metrics.protocols import Protocol
from sempart_jax.predict.postprocessing import postprocess
from tests.evaluation.scenes import WHOLE, RedMasks, labelled, rectangle, write_pair


def score_red(pairs, source=None, *, rule="image", postprocessings=("none",), **kwargs):
    return score(
        saliency_set(labelled(*pairs), WHOLE),
        source or RedMasks(),
        WHOLE,
        foreground_rule=rule,
        postprocessings=postprocessings,
        **kwargs,
    )


def f_measure(precision, recall):
    return 1.3 * precision * recall / (0.3 * precision + recall)


def write_many(folder, count):
    rng = np.random.default_rng(1)
    return [
        write_pair(folder, f"{i:03d}", 0.9 * rng.uniform(size=(12, 12)), rng.random((12, 12)) > 0.7)
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
    scored = score_red(pairs)
    assert scored.names == ["empty", "half", "right", "wrong"]
    np.testing.assert_allclose(scored.tally.object_sizes, [0, 32 / 400, 25 / 400, 36 / 400])
    red = scored.tally.scores["none"].compute()
    f_beta = (f_measure(1, 0.5) + 1 + 0 + 1) / 4
    expected = [1 - (16 + 0 + 40 + 0) / 4 / 400, (0.5 + 1 + 0) / 3, f_beta]
    np.testing.assert_allclose([red.accuracy, red.iou, red.max_f_beta], expected)
    assert red.images == 4
    # The box covers rows and columns 4 to 15.
    box = scored.tally.scores[CENTRE_BOX].compute()
    accuracy = 1 - (112 + 167 + 108 + 144) / 4 / 400
    iou = (32 / 144 + 1 / 168 + 36 / 144 + 0) / 4
    f_beta = (f_measure(32 / 144, 1) + f_measure(1 / 144, 1 / 25) + f_measure(36 / 144, 1) + 0) / 4
    np.testing.assert_allclose([box.accuracy, box.iou, box.max_f_beta], [accuracy, iou, f_beta])


def test_foreground_rule_is_applied(tmp_path):
    box = rectangle(2, 2, 4, 4)
    pairs = [write_pair(tmp_path, "inverted", ~box, box), write_pair(tmp_path, "plain", box, box)]
    by_image = score_red(pairs, rule="image")
    assert by_image.tally.scores["none"].compute().iou == 1.0
    assert by_image.inverted == [True, False]
    # The common mean is one half: nothing is inverted.
    for rule in ("batch", "none"):
        assert score_red(pairs, rule=rule).tally.scores["none"].compute().iou == pytest.approx(0.5)
    assert score_red(pairs[:1], rule="batch").tally.scores["none"].compute().iou == 1.0
    assert score_red(pairs[:1], rule="none").tally.scores["none"].compute().iou == 0.0


def test_postprocessings_are_scored_side_by_side_on_the_chosen_side(tmp_path):
    box = rectangle(4, 4, 12, 12, size=40)
    red = np.rint(255 * (1 - 0.7 * box - 0.3 * np.random.default_rng(0).random((40, 40)))) / 255
    image, mask = write_pair(tmp_path, "a", red, box)
    names = ("none", "guided", "bilateral")
    scored = score_red([(image, mask)], postprocessings=names)
    assert list(scored.tally.scores) == [*names, CENTRE_BOX]
    chosen = 1 - red.astype(np.float32)
    for name in names:
        expected = np.abs(postprocess(name, read_image(image), chosen) - box).mean()
        assert scored.tally.scores[name].compute().mae == pytest.approx(expected, rel=1e-6)
    assert len({scores.compute().mae for scores in scored.tally.scores.values()}) == 4


def test_crop_protocol_scores_the_crop_alone(tmp_path):
    truth = np.zeros((20, 40), bool)
    truth[:, 10:30] = True
    prediction = truth.copy()
    prediction[:, :10] = True  # wrong, but outside the middle 20 x 20
    pairs = [write_pair(tmp_path, "a", prediction, truth)]
    crop = Protocol("crop", "none", resize_size=20, crop_size=20)
    scored = score(
        saliency_set(labelled(*pairs), crop),
        RedMasks(),
        crop,
        foreground_rule="none",
        postprocessings=["none"],
    )
    assert scored.tally.scores["none"].compute().iou == 1.0
    assert scored.tally.object_sizes == [1.0]


def test_grey_ground_truth_is_cut_once_after_resizing(tmp_path):
    image, mask = write_pair(tmp_path, "a", np.zeros((4, 4)), np.zeros((4, 4), bool))
    # Cut first, 100 would be background and the means 127.5 at most; the true means are 177.5.
    grey = np.tile(np.array([[255, 100], [100, 255]], np.uint8), (2, 2))
    Image.fromarray(grey).save(mask)
    crop = Protocol("crop", "none", resize_size=2, crop_size=2)
    _, truth = saliency_set(labelled((image, mask)), crop).read(0)
    assert truth.all()


def test_bad_pairs_are_named_and_left_out(tmp_path, caplog):
    box = rectangle(2, 2, 4, 4)
    good = write_pair(tmp_path, "good", box, box)
    other_size = write_pair(tmp_path, "other_size", box, rectangle(0, 0, 2, 2, size=10))
    bad_image = write_pair(tmp_path, "bad_image", box, box)
    bad_image[0].write_bytes(b"no image")
    bad_mask = write_pair(tmp_path, "bad_mask", box, box)
    bad_mask[1].unlink()
    with caplog.at_level(logging.WARNING, logger="absl"):
        scored = score_red([other_size, bad_image, good, bad_mask])
    assert scored.names == ["good"]
    assert scored.tally.scores["none"].compute().images == 1
    assert len(scored.left_out) == 3
    for line, path in zip(scored.left_out, [bad_image[0], bad_mask[1], other_size[1]], strict=True):
        assert str(path) in line
        assert f"left out: {line}" in caplog.text


def test_a_strip_is_scored_whole_and_left_out_where_it_would_be_cropped(tmp_path):
    pairs = []
    for name, height in (("longest", 40), ("strip", 41)):
        image = np.zeros((height, 2, 3), np.uint8)
        mask = Image.fromarray(np.full((height, 2), 255, np.uint8))
        pairs.append((tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png"))
        Image.fromarray(image).save(pairs[-1][0])
        mask.save(pairs[-1][1])
    crop = Protocol("crop", "none", resize_size=10, crop_size=8)
    common = {"foreground_rule": "none", "postprocessings": ("none",)}
    cropped = score(saliency_set(labelled(*pairs), crop), RedMasks(), crop, **common)
    assert cropped.names == ["longest"]
    (line,) = cropped.left_out
    assert "strip: 2x41 pixels: one side is more than 20 times the other" in line
    assert score_red(pairs).names == ["longest", "strip"]


def test_nothing_readable_is_an_error(tmp_path):
    pairs = [(tmp_path / f"{name}.png", tmp_path / f"{name}_mask.png") for name in "ab"]
    with pytest.raises(ValueError, match=r"none of the 2 images can be scored: .*a\.png"):
        score_red(pairs)


def test_parts_do_not_change_the_scores(tmp_path, monkeypatch):
    pairs = write_many(tmp_path, 19)
    whole = score_red(pairs, rule="batch")
    monkeypatch.setattr(scoring, "PART_SIZE", 8)
    advanced = []
    parts = score_red(pairs, rule="batch", advance=advanced.append)
    assert advanced == [8, 8, 3]
    assert parts.names == whole.names
    assert parts.inverted == whole.inverted
    ours, theirs = (each.tally.scores["none"].compute() for each in (parts, whole))
    assert (ours.iou, ours.accuracy, ours.mae) == (theirs.iou, theirs.accuracy, theirs.mae)
    np.testing.assert_allclose(ours.f_curve, theirs.f_curve, rtol=1e-12)


def test_few_pixels_at_a_time_do_not_change_the_scores(tmp_path, monkeypatch):
    class MostlyRed(RedMasks):
        """Has no mask of some images, and counts how many are asked for at a time."""

        def __init__(self):
            super().__init__()
            self.at_once = []

        def __call__(self, images, protocol):
            self.at_once.append(len(images))
            return [
                Failure(f"no {framed.name}") if framed.name in ("003", "017") else mask
                for framed, mask in zip(images, super().__call__(images, protocol), strict=True)
            ]

    pairs = write_many(tmp_path, 29)
    pairs[5][1].write_bytes(b"nothing")
    for rule in ("batch", "image"):
        whole = score_red(pairs, MostlyRed(), rule=rule)
        source = MostlyRed()
        with monkeypatch.context() as patch:
            # Five images of 12 x 12 pixels, no multiple of eight.
            patch.setattr(scoring, "HELD_PIXELS", 5 * 144)
            few = score_red(pairs, source, rule=rule)
        assert max(source.at_once) == 5
        assert len(source.at_once) == 6
        assert few.names == whole.names
        assert few.inverted == whole.inverted
        assert sorted(few.left_out) == sorted(whole.left_out)
        assert few.tally.object_sizes == whole.tally.object_sizes
        for name, scores in whole.tally.scores.items():
            assert scores.compute().images == 26
            np.testing.assert_array_equal(
                few.tally.scores[name].iou_per_image, scores.iou_per_image
            )
    assert set(whole.inverted) == {True, False} or rule == "image"


def test_time_is_split_by_stage(tmp_path):
    seconds = score_red(write_many(tmp_path, 3)).seconds
    assert tuple(seconds) == STAGES
    assert all(value > 0 for value in seconds.values())


def test_only_some_names(tmp_path):
    pairs = write_many(tmp_path, 4)
    some = saliency_set(labelled(*pairs), WHOLE).only({"001", "003", "no such"})
    assert some.names == ["001", "003"]
    assert some.read(1)[0].name == "003"
