"""Foreground rules and scores of images drawn for the purpose."""

import dataclasses
import logging

import numpy as np
import pytest
from PIL import Image

from sempart_jax.scoring import (
    BATCH_RULE_SIZE,
    CENTRE_BOX,
    Score,
    centre_box,
    choose_foreground,
    labelled_batches,
    score_pairs,
)


def rectangle(top, left, height, width, size=20):
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def write_pair(folder, name, prediction, truth):
    """Write an image whose red is what :func:`predict_red` will say, and a mask."""
    image = np.zeros((*prediction.shape, 3), np.uint8)
    image[..., 0] = 255 * prediction
    paths = folder / f"{name}.png", folder / f"{name}_mask.png"
    Image.fromarray(image).save(paths[0])
    Image.fromarray(truth.astype(np.uint8) * 255).save(paths[1])
    return paths


def predict_red(images):
    return {"red": images[..., 0].astype(np.float32) / 255}


def f_measure(precision, recall):
    return 1.3 * precision * recall / (0.3 * precision + recall)


def score_whole(pairs, predict=predict_red, rule="image", size=20):
    return score_pairs(pairs, predict, image_size=size, resize_size=size, foreground_rule=rule)


def test_image_rule_decides_for_each_image():
    masks = np.stack([np.full((2, 3), mean, np.float32) for mean in (0.4, 0.75, 0.5)])
    chosen = choose_foreground(masks, "image")
    np.testing.assert_allclose(chosen[:, 0, 0], [0.4, 0.25, 0.5])
    assert chosen.shape == masks.shape
    assert chosen.dtype == np.float32


@pytest.mark.parametrize(("low", "inverted"), [(0.0, False), (0.25, False), (0.375, True)])
def test_batch_rule_decides_by_the_common_mean(low, inverted):
    masks = np.stack([np.full((2, 2), low), np.full((2, 2), 0.75)])
    np.testing.assert_array_equal(choose_foreground(masks), 1 - masks if inverted else masks)


def test_inverted_masks_are_chosen_alike():
    masks = np.random.default_rng(0).uniform(0, 0.8, (4, 5, 5))
    for rule in ("batch", "image"):
        np.testing.assert_allclose(
            choose_foreground(masks, rule), choose_foreground(1 - masks, rule)
        )


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"'majority': choose one of \('batch', 'image'\)"):
        choose_foreground(np.zeros((1, 2, 2)), "majority")


@pytest.mark.parametrize(("size", "side"), [(10, 6), (20, 12), (11, 7), (320, 192)])
def test_centre_box_is_in_the_middle(size, side):
    margin = (size - side) // 2
    np.testing.assert_array_equal(
        centre_box(size), rectangle(margin, margin, side, side, size=size)
    )


def test_centre_box_of_another_side():
    np.testing.assert_array_equal(centre_box(8, 0.5), rectangle(2, 2, 4, 4, size=8))
    assert centre_box(8, 1.0).all()


def test_scores_are_exact(tmp_path):
    pairs = [
        # 4 x 4 = 16 against 4 x 8 = 32 pixels, 16 of them common
        write_pair(tmp_path, "half", rectangle(4, 4, 4, 4), rectangle(4, 4, 4, 8)),
        write_pair(tmp_path, "right", rectangle(0, 0, 5, 5), rectangle(0, 0, 5, 5)),
        write_pair(tmp_path, "wrong", rectangle(0, 0, 2, 2), rectangle(10, 10, 6, 6)),
        write_pair(tmp_path, "empty", rectangle(0, 0, 0, 0), rectangle(0, 0, 0, 0)),
    ]
    scores = score_whole(pairs)
    red = dataclasses.astuple(scores["red"])
    f_beta = (f_measure(1, 0.5) + 1 + 0 + 1) / 4
    np.testing.assert_allclose(red, [1 - (16 + 0 + 40 + 0) / 4 / 400, (0.5 + 1 + 0) / 3, f_beta, 4])
    # The box covers rows and columns 4 to 15.
    box = dataclasses.astuple(scores[CENTRE_BOX])
    accuracy = 1 - (112 + 167 + 108 + 144) / 4 / 400
    iou = (32 / 144 + 1 / 168 + 36 / 144 + 0) / 4
    f_beta = (f_measure(32 / 144, 1) + f_measure(1 / 144, 1 / 25) + f_measure(36 / 144, 1) + 0) / 4
    np.testing.assert_allclose(box, [accuracy, iou, f_beta, 4])


def test_foreground_rule_is_applied(tmp_path):
    box = rectangle(2, 2, 4, 4)
    pairs = [write_pair(tmp_path, "inverted", ~box, box), write_pair(tmp_path, "plain", box, box)]
    # The common mean is one half: nothing is inverted.
    assert score_whole(pairs, rule="batch")["red"].iou == pytest.approx(0.5)
    assert score_whole(pairs, rule="image")["red"].iou == 1.0
    assert score_whole(pairs[:1], rule="batch")["red"].iou == 1.0


def test_batch_rule_looks_at_eight_images(tmp_path):
    box = rectangle(2, 2, 4, 4)
    pairs = [write_pair(tmp_path, f"{i}", box, box) for i in range(BATCH_RULE_SIZE)]
    inverted = write_pair(tmp_path, "inverted", ~box, box)
    seen = []

    def predict(images):
        seen.append(len(images))
        return predict_red(images)

    # The ninth image is alone in its batch.
    scores = score_whole([*pairs, inverted], predict, rule="batch")
    assert seen == [8, 1]
    assert scores["red"] == Score(accuracy=1.0, iou=1.0, max_f_beta=1.0, images=9)


def test_all_masks_are_scored_by_name(tmp_path):
    box = rectangle(2, 2, 4, 4)
    pairs = [write_pair(tmp_path, "a", box, box)]

    def predict(images):
        red = predict_red(images)["red"]
        return {"fine": red, "refined": 0.4 * red}

    scores = score_whole(pairs, predict)
    assert {name: score.iou for name, score in scores.items()} == {
        "fine": 1.0,
        "refined": 0.0,
        CENTRE_BOX: pytest.approx(4 / 156),
    }
    # The F measure looks for its own threshold.
    assert scores["refined"].max_f_beta == 1.0


def test_no_union_at_all_gives_nan_without_a_warning(tmp_path):
    nothing = rectangle(0, 0, 0, 0)
    scores = score_whole([write_pair(tmp_path, "a", nothing, nothing)])
    assert np.isnan(scores["red"].iou)
    assert scores["red"].accuracy == 1.0


@pytest.mark.parametrize("shape", [(40, 60), (61, 40), (16, 16), (30, 77)])
def test_image_and_mask_are_cropped_alike(tmp_path, shape):
    rng = np.random.default_rng(0)
    mask = np.kron(rng.uniform(size=(shape[0] // 4 + 1, shape[1] // 4 + 1)) > 0.5, np.ones((4, 4)))
    mask = mask[: shape[0], : shape[1]].astype(bool)
    pairs = [write_pair(tmp_path, "a", mask, mask)]
    ((images, masks),) = labelled_batches(pairs, batch_size=4, image_size=20, resize_size=24)
    assert images.shape == (1, 20, 20, 3)
    assert images.dtype == np.uint8
    assert masks.dtype == bool
    np.testing.assert_array_equal(images[..., 0] > 127, masks)
    assert 0.2 < masks.mean() < 0.8


def test_batches_keep_the_order_and_the_last_may_be_smaller(tmp_path):
    pairs = [
        write_pair(tmp_path, f"{i}", rectangle(0, 0, 1, i), rectangle(0, 0, 1, i)) for i in range(5)
    ]
    batches = list(labelled_batches(pairs, batch_size=2, image_size=20, resize_size=20))
    assert [len(images) for images, _ in batches] == [2, 2, 1]
    counts = np.concatenate([masks.sum((1, 2)) for _, masks in batches])
    np.testing.assert_array_equal(counts, range(5))


def test_bad_pairs_are_named_and_left_out(tmp_path, caplog):
    box = rectangle(2, 2, 4, 4)
    good = write_pair(tmp_path, "good", box, box)
    other_size = write_pair(tmp_path, "other_size", box, rectangle(0, 0, 2, 2, size=10))
    bad_image = write_pair(tmp_path, "bad_image", box, box)
    bad_image[0].write_bytes(b"no image")
    bad_mask = write_pair(tmp_path, "bad_mask", box, box)
    bad_mask[1].unlink()
    with caplog.at_level(logging.WARNING, logger="absl"):
        scores = score_whole([other_size, bad_image, good, bad_mask])
    assert scores["red"] == Score(accuracy=1.0, iou=1.0, max_f_beta=1.0, images=1)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert f"left out: {other_size[0]} is 20x20, its mask {other_size[1]} 10x10" in messages[0]
    assert f"left out: cannot read the image {bad_image[0]}" in messages[1]
    assert f"left out: cannot read the image {bad_mask[1]}" in messages[2]


def test_nothing_readable_is_an_error(tmp_path):
    pair = tmp_path / "a.png", tmp_path / "a_mask.png"
    with pytest.raises(ValueError, match="none of the 2 labelled images can be read"):
        score_whole([pair, pair])
