"""How many pixels may be in memory at a time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class PixelBudget:
    """Counts pixels in use by several threads; what is larger than all of it goes alone."""

    def __init__(self, pixels: int) -> None:
        """Set the limit in pixels."""
        self._limit = pixels
        self._used = 0
        self._changed = threading.Condition()

    def try_acquire(self, pixels: int) -> bool:
        """Take pixels if they are left, or nothing else is in use; and say whether."""
        with self._changed:
            if self._used and self._used + pixels > self._limit:
                return False
            self._used += pixels
            return True

    def release(self, pixels: int) -> None:
        """Give pixels back."""
        with self._changed:
            self._used -= pixels
            self._changed.notify_all()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Hold pixels while what is inside runs; waits until they are left."""
        with self._changed:
            self._changed.wait_for(lambda: self.try_acquire(pixels))
        try:
            yield
        finally:
            self.release(pixels)


def within_pixels(
    indices: Sequence[int], pixels: Callable[[int], int], limit: int
) -> Iterator[list[int]]:
    """Split images into runs that may be in memory together.

    Args:
        indices: numbers of the images, in order.
        pixels: number of an image to its pixels.
        limit: most pixels of a run; an image that is larger is alone in its.

    Yields:
        The numbers of a run, at least one.
    """
    run: list[int] = []
    held = 0
    for index in indices:
        size = pixels(index)
        if run and held + size > limit:
            yield run
            run, held = [], 0
        run.append(index)
        held += size
    if run:
        yield run
