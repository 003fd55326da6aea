"""Batches that are waited for no longer than one wants: reading them can take for ever."""

import os
import queue
import sys
import threading
from collections.abc import Callable, Generator
from typing import NoReturn

from sempart_jax.data.pipeline import Batch

_THREAD = "sempart_jax batches"
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""How long the end waits for a batch that is being made: workers that start take seconds."""


class AwaitedBatches:
    """Has batches made in a thread, one at a time, each when it is asked for."""

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        """Start the thread.

        Args:
            batches: what makes them; closed with this.
        """
        self._batches = batches
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[Batch | Exception] = queue.SimpleQueue()
        self._in_the_making = False
        # No end of this process waits for it: a disk over a network may never answer.
        self._thread = threading.Thread(target=self._make, name=_THREAD, daemon=True)
        self._thread.start()

    def next(self, given_up: Callable[[], bool]) -> Batch | None:
        """Wait for the next batch.

        Args:
            given_up: asked several times a second whether to wait no longer.

        Returns:
            The batch; ``None`` where it was given up.

        Raises:
            Exception: what making it has raised.
        """
        while not given_up():
            if not self._in_the_making:
                self._wanted.put(True)
                self._in_the_making = True
            try:
                made = self._made.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            self._in_the_making = False
            if isinstance(made, Exception):
                raise made
            return made
        return None

    def close(self) -> None:
        """End the thread and what makes the batches.

        Where that is stuck, it is left to :func:`leave_program`.
        """
        self._wanted.put(False)
        self._thread.join(_GRACE_SECONDS)
        if not self._thread.is_alive():
            self._batches.close()

    def _make(self) -> None:
        while self._wanted.get():
            try:
                self._made.put(next(self._batches))
            except Exception as error:
                self._made.put(error)


def is_stuck() -> bool:
    """Whether a batch that was given up is still being made."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


def leave_program(status: int) -> NoReturn:
    """End the program, whatever is stuck; everything that must be closed is closed before.

    Args:
        status: exit status.
    """
    if is_stuck():
        # Python would wait for the threads that read images. Workers end with this process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
