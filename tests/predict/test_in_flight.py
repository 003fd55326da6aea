"""Two batches under way."""

import pytest

from sempart_jax.predict.predictor import map_in_flight


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_keep_their_order_and_two_are_in_flight(count):
    begun, fetched = [], []

    def start(item):
        begun.append(item)
        assert len(begun) - len(fetched) <= 2

        def fetch():
            # The next one has been begun, where there is one.
            assert len(begun) == min(item + 2, count)
            fetched.append(item)
            return 10 * item

        return fetch

    assert list(map_in_flight(start, range(count))) == [10 * item for item in range(count)]
    assert fetched == list(range(count))


def test_batches_are_taken_no_sooner_than_they_are_begun():
    taken = []

    def batches():
        for item in range(5):
            taken.append(item)
            yield item

    results = map_in_flight(lambda item: lambda: item, batches())
    assert next(results) == 0
    assert taken == [0, 1]
