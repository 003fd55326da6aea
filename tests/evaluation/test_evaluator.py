"""Sections: names, numbers and warnings."""

import dataclasses
import logging

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.boxed import BoxedSet, read_boxes
from sempart_jax.evaluation.evaluator import Evaluator, given_boxes_section
from sempart_jax.evaluation.given_boxes import read_given_boxes
from sempart_jax.evaluation.origin import Origin
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.metrics.protocols import PROTOCOLS
from tests.evaluation.scenes import WHOLE, RedMasks, labelled, rectangle, write_pair


def red(names=None):
    return Origin(RedMasks(), {}, names)


def write_set(folder, count=3):
    folder.mkdir(exist_ok=True)
    box = rectangle(2, 2, 8, 8)
    pairs = [write_pair(folder, f"{i}", ~box if i % 2 else box, box) for i in range(count)]
    return labelled(*pairs, published_images=1000)


def test_section_says_what_it_is_of(tmp_path):
    evaluator = Evaluator(postprocessings=("none", "guided"))
    section, _ = evaluator.saliency("ecssd", write_set(tmp_path), red(), PROTOCOLS["native"])
    assert (
        section.dataset,
        section.protocol,
        section.foreground_rule,
        section.published_images,
    ) == ("ecssd", "native", "image", 1000)
    assert section.names == ("0", "1", "2")
    np.testing.assert_array_equal(section.inverted, [False, True, False])
    np.testing.assert_allclose(section.object_sizes, 64 / 400)
    assert list(section.scores) == ["none", "guided", CENTRE_BOX]
    assert section.scores["none"].compute().iou == 1.0
    assert section.extra == {}
    assert all(value > 0 for value in evaluator.seconds.values())


def test_foreground_rule_can_be_set_for_all_protocols(tmp_path):
    evaluator = Evaluator(postprocessings=("none",), foreground_rule="none")
    section, _ = evaluator.saliency("ecssd", write_set(tmp_path), red(), PROTOCOLS["native"])
    assert section.foreground_rule == "none"
    assert section.scores["none"].compute().iou == pytest.approx(2 / 3)


def test_masks_of_some_images_are_scored_with_a_warning(tmp_path, caplog):
    evaluator = Evaluator(postprocessings=("none",))
    with caplog.at_level(logging.WARNING, logger="absl"):
        section, _ = evaluator.saliency("ecssd", write_set(tmp_path), red({"0", "2", "9"}), WHOLE)
    assert section.names == ("0", "2")
    assert "ecssd: masks for 2 of 3 images" in caplog.text
    with pytest.raises(ValueError, match="ecssd: none of its 3 images has a mask, such as 0"):
        evaluator.saliency("ecssd", write_set(tmp_path), red({"00"}), WHOLE)


def test_corloc_of_masks_is_of_the_images_that_are_there(tmp_path):
    paths = {}
    for name, mask in {"a": rectangle(2, 2, 8, 8), "b": rectangle(12, 12, 4, 4)}.items():
        paths[name] = tmp_path / f"{name}.png"
        image = np.zeros((20, 20, 3), np.uint8)
        image[..., 0] = 255 * mask
        Image.fromarray(image).save(paths[name])
    boxes = {name: [(2.0, 2.0, 10.0, 10.0)] for name in "abc"}
    evaluator = Evaluator(postprocessings=("none",))
    section = evaluator.localization("voc07", BoxedSet(paths, boxes), red())
    assert (section.dataset, section.protocol, section.foreground_rule) == (
        "voc07",
        "native",
        "image",
    )
    chosen = dataclasses.replace(red(), foreground_chosen=True)
    section = evaluator.localization("voc07", BoxedSet(paths, boxes), chosen)
    assert section.foreground_rule == "none"
    assert (section.images, section.published_images) == (2, 3)
    # The middle box is (4, 4, 16, 16): 36 of 172 pixels are common.
    assert section.corloc == {"none": 50.0, CENTRE_BOX: 0.0}


def test_left_out_images_are_listed_with_their_data_set(tmp_path):
    pairs = write_set(tmp_path)
    (tmp_path / "1.png").write_bytes(b"")
    evaluator = Evaluator(postprocessings=("none",))
    evaluator.saliency("ecssd", pairs, red(), WHOLE)
    (line,) = evaluator.left_out
    assert line.startswith("ecssd, whole: ")
    assert "1.png" in line


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
