"""Two batches under way: the host prepares and finishes one while the device computes the other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")

IN_FLIGHT = 2
"""Batches that are begun and not yet fetched. A device that always has one more to go on with is
never idle; a third would only take memory."""


def map_in_flight(
    start: Callable[[Given], Callable[[], Result]], batches: Iterable[Given]
) -> Iterator[Result]:
    """Begin each batch before the result of the last is waited for.

    Args:
        start: begins a batch and returns what waits for its result.
        batches: taken one by one, as late as can be.

    Yields:
        Results in the order of ``batches``.
    """
    begun: deque[Callable[[], Result]] = deque()
    for batch in batches:
        begun.append(start(batch))
        if len(begun) == IN_FLIGHT:
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()
