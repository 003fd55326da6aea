"""What is counted of masks, and merged."""

import numpy as np
import pytest

from sempart_jax.evaluation.mask_tally import SaliencyTally
from sempart_jax.evaluation.results import CENTRE_BOX


def make_tally(seed, names=("none", "guided", CENTRE_BOX), count=3):
    rng = np.random.default_rng(seed)
    tally = SaliencyTally()
    for _ in range(count):
        tally.add({name: rng.random((5, 7)) for name in names}, rng.random((5, 7)) > 0.6)
    return tally


def test_merging_is_adding_all_images():
    first, second = make_tally(0), make_tally(1, count=2)
    sizes = first.object_sizes + second.object_sizes
    ious = [tally.scores["none"].iou_per_image for tally in (first, second)]
    first.merge(second)
    np.testing.assert_array_equal(first.object_size_per_image, sizes)
    np.testing.assert_array_equal(first.scores["none"].iou_per_image, np.concatenate(ious))


def test_further_scores_are_of_the_masks_and_not_of_the_box():
    pytest.importorskip("py_sod_metrics")
    rng = np.random.default_rng(0)
    mask, truth = rng.random((9, 9)), rng.random((9, 9)) > 0.5
    tally = SaliencyTally()
    tally.add({"none": mask, CENTRE_BOX: truth}, truth, extra=True)
    assert list(tally.extra) == ["none"]
