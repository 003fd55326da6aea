"""Boxes of masks, and merged ones."""

import numpy as np
from PIL import Image

from sempart_jax.data.boxed import BoxedSet
from sempart_jax.evaluation.box_tally import BoxTally, boxes_by_name, localization_set
from sempart_jax.evaluation.results import CENTRE_BOX
from tests.evaluation.scenes import rectangle


def test_largest_box_of_each_mask_is_kept():
    tally = BoxTally()
    tally.add({"none": rectangle(2, 3, 4, 5), "guided": rectangle(0, 0, 0, 0)})
    assert tally.boxes["none"] == [(3.0, 2.0, 8.0, 6.0)]
    assert boxes_by_name(["a"], tally.boxes["none"]) == {"a": (3.0, 2.0, 8.0, 6.0)}
    assert boxes_by_name(["a"], tally.boxes["guided"]) == {"a": None}


def test_boxes_of_two_parts_are_merged():
    first, second = BoxTally(), BoxTally()
    first.add({"none": rectangle(2, 3, 4, 5)})
    second.add({"none": rectangle(0, 0, 0, 0)})
    first.merge(second)
    np.testing.assert_array_equal(first.boxes["none"], [(3, 2, 8, 6), (np.nan,) * 4])


def test_images_are_whole_and_the_centre_box_has_their_shape(tmp_path):
    path = tmp_path / "7.png"
    Image.new("RGB", (20, 10)).save(path)
    scored_set = localization_set(BoxedSet({"7": path}, {"7": [], "8": []}))
    assert scored_set.names == ("7",)
    framed, truth = scored_set.read(0)
    assert (framed.name, framed.image.shape, framed.original_size) == ("7", (10, 20, 3), (10, 20))
    assert scored_set.pixels(0) == 200
    tally = scored_set.count({"none": np.zeros((10, 20), bool)}, truth)
    assert tally.boxes[CENTRE_BOX] == [(4.0, 2.0, 16.0, 8.0)]
