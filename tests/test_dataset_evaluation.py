"""Data sets scored from Python, without a run and without a report."""

import logging

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.dataset_evaluation import evaluate
from sempart_jax.evaluation.origin import Origin


class Everything:
    """Masks that are foreground everywhere."""

    def __call__(self, images, protocol):
        return [np.ones(framed.image.shape[:2], np.float32) for framed in images]


def everything(**facts):
    return Origin(Everything(), "everything", facts)


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
