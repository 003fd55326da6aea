"""Sections: names, numbers and warnings."""

import logging

import numpy as np
import pytest

from sempart_jax.data.boxed import BoxedSet, read_boxes
from sempart_jax.evaluate import read_given_boxes
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.scoring import Scorer
from sempart_jax.evaluation.sections import (
    given_boxes_section,
    localization_section,
    saliency_section,
)
from sempart_jax.metrics.protocols import PROTOCOLS
from tests.evaluation.scenes import labelled, rectangle, red, score_red, write_pair, write_red


def write_set(folder):
    box = rectangle(2, 2, 8, 8)
    return [write_pair(folder, f"{i}", ~box if i % 2 else box, box) for i in range(3)]


def test_section_says_what_it_is_of(tmp_path):
    pairs = labelled(*write_set(tmp_path), published_images=1000)
    scorer = Scorer(("none", "guided"))
    section = saliency_section(scorer, "ecssd", pairs, red(), PROTOCOLS["native"])
    assert (section.dataset, section.protocol) == ("ecssd", "native")
    assert (section.foreground_rule, section.published_images) == ("image", 1000)
    assert section.names == ("0", "1", "2")
    np.testing.assert_array_equal(section.inverted, [False, True, False])
    np.testing.assert_allclose(section.object_sizes, 64 / 400)
    assert list(section.scores) == ["none", "guided", CENTRE_BOX]
    assert section.scores["none"].compute().iou == 1.0
    assert section.extra == {}


def test_further_scores_are_of_the_masks_and_not_of_the_box(tmp_path):
    pytest.importorskip("py_sod_metrics")
    section, _ = score_red(write_set(tmp_path), scorer=Scorer(("none",), extra=True))
    assert list(section.extra) == ["none"]
    assert section.extra["none"].mae < 0.01


def test_masks_of_some_images_are_scored_with_a_warning(tmp_path, caplog):
    pairs = write_set(tmp_path)
    with caplog.at_level(logging.WARNING, logger="absl"):
        section, _ = score_red(pairs, origin=red(names={"0", "2", "9"}))
    assert section.names == ("0", "2")
    assert "set: masks for 2 of 3 images" in caplog.text
    with pytest.raises(ValueError, match="set: none of its 3 images has a mask, such as 0"):
        score_red(pairs, origin=red(names={"00"}))


@pytest.mark.parametrize("protocol", ["native", "crop320"])
def test_ground_truths_without_foreground_have_no_score(tmp_path, protocol):
    empty = rectangle(0, 0, 0, 0)
    pairs = [write_pair(tmp_path, f"{i}", rectangle(2, 2, 8, 8), empty) for i in range(2)]
    with pytest.raises(ValueError, match=f"set, {protocol}: none of 2 ground truths .* that of 0:"):
        score_red(pairs, protocol=PROTOCOLS[protocol])
    # One is enough.
    score_red([*pairs, *write_set(tmp_path)], protocol=PROTOCOLS[protocol])


def test_corloc_of_masks_is_of_the_images_that_are_there(tmp_path):
    masks = {"a": rectangle(2, 2, 8, 8), "b": rectangle(12, 12, 4, 4), "e": rectangle(0, 0, 0, 0)}
    paths = {name: write_red(tmp_path / f"{name}.png", mask) for name, mask in masks.items()}
    boxes = {name: [(2.0, 2.0, 10.0, 10.0)] for name in "abce"}
    scorer = Scorer(("none",))
    section = localization_section(scorer, "voc07", BoxedSet(paths, boxes), red())
    assert (section.dataset, section.protocol) == ("voc07", "native")
    assert section.foreground_rule == "image"
    assert (section.images, section.published_images) == (3, 4)
    # The middle box is (4, 4, 16, 16): 36 of 172 pixels are common. An empty mask has no box.
    assert section.corloc == {"none": pytest.approx(100 / 3), CENTRE_BOX: 0.0}
    chosen = red(foreground_chosen=True)
    section = localization_section(scorer, "voc07", BoxedSet(paths, boxes), chosen)
    assert section.foreground_rule == "none"


def test_given_boxes_are_scored_on_all_annotated_images(caplog):
    truth = {"a": [(0, 0, 10, 10)], "b": [(0, 0, 10, 10)], "c": [(0, 0, 10, 10)], "d": []}
    with caplog.at_level(logging.WARNING, logger="absl"):
        section = given_boxes_section("voc07", {"a": [0, 0, 10, 9], "b": None}, truth)
    assert section.corloc == {"none": pytest.approx(100 / 3)}
    assert (section.protocol, section.images, section.published_images) == ("boxes", 4, 4)
    assert "voc07: boxes for 2 of 4 images" in caplog.text


def test_lost_on_all_of_voc07(reference_data):
    boxes = read_given_boxes(reference_data / "predictions/lost_voc07_trainval_boxes.json")
    section = given_boxes_section("voc07", boxes, read_boxes("voc07", reference_data))
    assert section.images == 5011
    assert section.corloc["none"] == pytest.approx(61.9038, abs=5e-5)
