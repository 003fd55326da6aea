"""SIGTERM and SIGINT: a training ends after the step that it is in, and keeps it."""

import contextlib
import os
import signal
import types
from collections.abc import Iterator

_STDERR = 2


class StoppedRunError(RuntimeError):
    """A signal has asked the run to end; it has kept what it has done.

    Attributes:
        exit_status: what the program is to end with.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        """Say what is kept.

        Args:
            message: one line.
            number: signal that has asked.
        """
        super().__init__(message)
        self.exit_status = _exit_status(number)


class LookInterruptedError(Exception):
    """A signal has come while a state was drawn or scored; nothing of it is written."""


class StopSignals:
    """Signals that have come to this process, and are answered when it suits.

    Attributes:
        received: the first one; ``None`` so far.
    """

    def __init__(self) -> None:
        """Start without."""
        self.received: int | None = None
        self._deferred = False

    @contextlib.contextmanager
    def noticed(self) -> Iterator[None]:
        """Take signals until the block ends; in the main thread alone.

        Raises:
            SystemExit: at a signal that comes before :meth:`defer`.
        """
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def defer(self) -> None:
        """Only note signals from now on: whoever trains asks :attr:`received` after each step.

        A second SIGINT ends the process at once. SIGTERM may come twice for one request: to a group
        of processes, and from the one that passes it on.
        """
        self._deferred = True

    def interrupt_look(self) -> None:
        """Raise LookInterruptedError if a signal has come."""
        if self.received is not None:
            raise LookInterruptedError

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self._deferred:
            _say(f"{name}: ended before training went on; the same command starts it again")
            # No Exception: whoever looks for damaged files must not take it for one.
            raise SystemExit(_exit_status(number))
        self.received = self.received or number
        more = ""
        if number == signal.SIGINT:
            # The system itself answers the next one, whatever this process is busy with.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            more = "; once more ends at once"
        _say(f"{name}: ending after this step{more}")


def _exit_status(number: int) -> int:
    """Return 0 after SIGTERM, by which schedulers end a job, and 130 after SIGINT, as shells do."""
    return 128 + number if number == signal.SIGINT else 0


def _say(line: str) -> None:
    # No print: the signal may have come in the middle of one.
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"\n{line}\n".encode())
