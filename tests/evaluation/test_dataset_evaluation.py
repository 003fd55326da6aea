"""Data sets scored from Python, without a run and without a report."""

import dataclasses
import logging

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.evaluate import evaluate
from sempart_jax.evaluation.origin import Origin, saved_origin


class Everything:
    """Masks that are foreground everywhere."""

    def __call__(self, images, protocol):
        return [np.ones(framed.image.shape[:2], np.float32) for framed in images]


def everything(**facts):
    return Origin(Everything(), facts)


@pytest.fixture
def data_root(tmp_path):
    for folder in ("ECSSD", "DUTS/DUTS-TE"):
        write_scenes(tmp_path / folder, 3, 40, seed=0)
    (tmp_path / "ECSSD/masks").rename(tmp_path / "ECSSD/ground_truth_mask")
    for kind, name in (("images", "DUTS-TE-Image"), ("masks", "DUTS-TE-Mask")):
        (tmp_path / "DUTS/DUTS-TE" / kind).rename(tmp_path / "DUTS/DUTS-TE" / name)
    return tmp_path


def test_each_data_set_is_scored_under_each_protocol(data_root, caplog):
    before = sorted(data_root.rglob("*"))
    with caplog.at_level(logging.WARNING, logger="absl"):
        evaluation = evaluate(
            dict.fromkeys(("ecssd", "duts_te"), everything()),
            data_root,
            title="all of it",
            protocols=("crop320", "native"),
            postprocessings=("none",),
            foreground_rule="none",
        )
    assert [(section.dataset, section.protocol) for section in evaluation.saliency] == [
        ("ecssd", "crop320"),
        ("ecssd", "native"),
        ("duts_te", "crop320"),
        ("duts_te", "native"),
    ]
    truths = [
        np.asarray(Image.open(path)) > 127
        for path in (data_root / "ECSSD/ground_truth_mask").iterdir()
    ]
    # Of a mask that is everywhere, IoU is the share of the object.
    share = np.mean([truth.mean() for truth in truths])
    native = evaluation.saliency[1].scores["none"].compute()
    np.testing.assert_allclose(native.iou, share, rtol=1e-6)
    assert "ecssd: 3 images are there, 1000 are published" in caplog.text
    assert sorted(data_root.rglob("*")) == before


def test_a_fact_that_not_all_share_names_its_data_set(data_root):
    evaluation = evaluate(
        {"ecssd": everything(masks="mine", card="none"), "duts_te": everything(masks="yours")},
        data_root,
        title="all of it",
        postprocessings=("none",),
    )
    assert evaluation.facts == {
        "masks, ecssd": "mine",
        "card, ecssd": "none",
        "masks, duts_te": "yours",
    }


@pytest.mark.parametrize("protocol", ["crop320", "native"])
def test_saved_masks_are_scored_as_they_are_unless_a_rule_is_asked_for(tmp_path, protocol):
    """Perfect masks of large objects: any rule inverts them all."""
    images, masks = tmp_path / "ECSSD/images", tmp_path / "ECSSD/ground_truth_mask"
    for folder in (images, masks):
        folder.mkdir(parents=True)
    large = np.zeros((40, 40), np.uint8)
    large[4:, 4:] = 255
    for name in ("a", "b"):
        Image.fromarray(np.stack([large] * 3, axis=-1)).save(images / f"{name}.jpg")
        Image.fromarray(large).save(masks / f"{name}.png")

    def score(**options):
        (section,) = evaluate(
            {"ecssd": saved_origin(masks)},
            tmp_path,
            title="perfect",
            protocols=[protocol],
            postprocessings=["none"],
            **options,
        ).saliency
        return section.foreground_rule, section.scores["none"].compute().iou

    assert score() == ("none", 1.0)
    assert score(foreground_rule="image") == ("image", 0.0)


def test_each_origin_says_whether_its_foreground_is_chosen(data_root):
    chosen = dataclasses.replace(everything(), foreground_chosen=True)
    evaluation = evaluate(
        {"ecssd": everything(), "duts_te": chosen},
        data_root,
        title="all of it",
        postprocessings=("none",),
    )
    assert [section.foreground_rule for section in evaluation.saliency] == ["batch", "none"]
    assert [section.inverted.all() for section in evaluation.saliency] == [True, False]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ((), "no protocol is named: choose among crop320, native"),
        (("whole",), "unknown protocol 'whole'"),
        (("native", "native"), "protocol native is named twice"),
    ],
)
def test_names_are_checked_before_anything_is_opened(tmp_path, names, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate({"ecssd": everything()}, tmp_path, title="all of it", protocols=names)
