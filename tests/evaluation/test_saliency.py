"""What is counted of masks, kept and merged."""

import numpy as np
import pytest

from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.evaluation.saliency import SaliencyTally


def make_tally(seed, names=("none", "guided", CENTRE_BOX), count=3):
    rng = np.random.default_rng(seed)
    tally = SaliencyTally()
    for _ in range(count):
        tally.add({name: rng.random((5, 7)) for name in names}, rng.random((5, 7)) > 0.6)
    return tally


def assert_equal(first, second):
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_arrays_hold_all_of_it():
    tally = make_tally(0)
    arrays = tally.to_arrays()
    assert all(array.dtype != object for array in arrays.values())
    again = SaliencyTally.from_arrays(arrays)
    assert_equal(again.to_arrays(), arrays)
    assert list(again.scores) == ["none", "guided", CENTRE_BOX]
    assert again.scores["guided"].compute().iou == tally.scores["guided"].compute().iou


def test_merging_is_adding_all_images():
    first, second = make_tally(0), make_tally(1, count=2)
    sizes = first.object_sizes + second.object_sizes
    ious = [tally.scores["none"].iou_per_image for tally in (first, second)]
    first.merge(second)
    np.testing.assert_array_equal(first.object_size_per_image, sizes)
    np.testing.assert_array_equal(first.scores["none"].iou_per_image, np.concatenate(ious))


def test_nothing_can_be_kept_and_merged_too():
    empty = SaliencyTally.from_arrays(SaliencyTally().to_arrays())
    empty.merge(make_tally(0))
    assert_equal(empty.to_arrays(), make_tally(0).to_arrays())


def test_further_scores_are_of_the_masks_and_not_of_the_box():
    pytest.importorskip("py_sod_metrics")
    rng = np.random.default_rng(0)
    mask, truth = rng.random((9, 9)), rng.random((9, 9)) > 0.5
    tally = SaliencyTally()
    tally.add({"none": mask, CENTRE_BOX: truth}, truth, extra=True)
    assert list(tally.extra) == ["none"]
    again = SaliencyTally.from_arrays(tally.to_arrays())
    assert again.extra["none"].compute() == tally.extra["none"].compute()


def test_missing_arrays_are_named():
    arrays = make_tally(0).to_arrays()
    for name in arrays:
        with pytest.raises(ValueError, match=name.rpartition("/")[2]):
            SaliencyTally.from_arrays({key: arrays[key] for key in arrays if key != name})
