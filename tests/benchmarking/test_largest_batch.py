"""Doubling and bisection."""

import pytest

from scripts.benchmarking.largest_batch import RESOLUTION, find_largest


@pytest.mark.parametrize("most", [1, 2, 7, 8, 9, 100, 777])
@pytest.mark.parametrize("start", [1, 5, 64])
def test_the_search_ends_at_an_eighth(most, start):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= most

    largest, smallest = find_largest(fits, start, 4096)
    assert largest <= most < smallest
    assert smallest - largest <= max(1, largest // RESOLUTION)
    assert len(set(tried)) == len(tried) < 16


def test_nothing_fits():
    assert find_largest(lambda batch: False, 4, 8) == (0, 1)


def test_the_limit_is_the_last_that_is_tried():
    tried = []
    assert find_largest(lambda batch: tried.append(batch) or True, 3, 10) == (10, None)
    assert tried == [3, 6, 10]
