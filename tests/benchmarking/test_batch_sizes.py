"""The flag ``--batch_sizes``."""

import pytest

from scripts.benchmarking.batch_sizes import parse_batch_sizes


def test_sizes_are_sorted():
    assert parse_batch_sizes(["32", "8", "32"]) == [8, 32]


@pytest.mark.parametrize("values", [[], ["0"], ["8", "-2"], ["8.5"], ["all"], [""]])
def test_other_values_are_refused(values):
    with pytest.raises(ValueError, match=r"--batch_sizes=.*: give positive integers"):
        parse_batch_sizes(values)
