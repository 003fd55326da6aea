"""The PyTorch twin computes what ours computes."""

import dataclasses

import pytest

pytest.importorskip("torch")

from scripts.benchmarking import agreement

TERMS = {"total", "ncut", "gtv_fine", "gtv_coarse", "consistency", "ncut_crop", "equivariance"}


@pytest.mark.slow
def test_twin_gives_the_same_losses_gradients_and_masks():
    found = agreement.differences(seed=1)
    assert set(found.terms) == TERMS
    # Three projections, two transformer layers of 11 tensors, four convolution blocks of 4.
    assert len(found.gradients) == 2 * 3 + 11 * 2 + 4 * 4
    assert len(found.averages) == 8
    assert set(found.masks) == {"fine", "refined"}
    largest = agreement.within_bounds(found)
    assert set(largest) == set(agreement.BOUNDS)


@pytest.mark.parametrize("kind", ["terms", "gradients", "averages", "masks"])
@pytest.mark.parametrize("value", [0.01, float("nan")])
def test_a_difference_beyond_its_bound_stops_the_benchmark(kind, value):
    kinds = {
        field.name: {"a": 0.0, "b": 0.0} for field in dataclasses.fields(agreement.Differences)
    }
    assert agreement.within_bounds(agreement.Differences(**kinds))["masks"] == 0
    kinds[kind]["a"] = value
    with pytest.raises(RuntimeError, match="compute different things"):
        agreement.within_bounds(agreement.Differences(**kinds))
