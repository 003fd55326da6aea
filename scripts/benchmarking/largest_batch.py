"""The largest batch that fits, by doubling and bisection."""

from collections.abc import Callable

RESOLUTION = 8
"""The search ends when an eighth more does not fit."""


def find_largest(fits: Callable[[int], bool], start: int, limit: int) -> tuple[int, int | None]:
    """Search for the largest batch.

    Args:
        fits: tells whether a batch does; no larger batch does where one does not.
        start: first batch that is tried, positive.
        limit: largest batch that is tried, at least ``start``.

    Returns:
        The largest batch that fits, 0 if none does, and the smallest that does not, at most an
        eighth or one image larger; ``None`` if all up to the limit do.
    """
    largest, smallest = 0, None
    batch = start
    while smallest is None:
        if fits(batch):
            largest = batch
            if batch == limit:
                return largest, None
            batch = min(2 * batch, limit)
        else:
            smallest = batch
    while smallest - largest > max(1, largest // RESOLUTION):
        batch = (largest + smallest) // 2
        if fits(batch):
            largest = batch
        else:
            smallest = batch
    return largest, smallest
