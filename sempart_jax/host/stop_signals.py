"""SIGTERM and SIGINT: a training ends after the step that it is in, and keeps it."""

import contextlib
import os
import signal
import threading
import types

_STDERR = 2


class StoppedRunError(RuntimeError):
    """A signal has asked the run to end; it has kept what it has done.

    Attributes:
        exit_status: what the program is to end with: 0 after SIGTERM, by which schedulers end a
            job, and 130 after SIGINT, as shells do.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        """Say what is kept."""
        super().__init__(message)
        self.exit_status = 128 + number if number == signal.SIGINT else 0


class StopSignals:
    """Notes SIGTERM and SIGINT while it is open, in the main thread alone; a context manager.

    A second SIGINT ends the process at once. SIGTERM may come twice for one request: to a group of
    processes, and from the one that passes it on.

    Attributes:
        received: the first one; ``None`` so far.
    """

    def __init__(self) -> None:
        """Start without."""
        self.received: int | None = None

    def __enter__(self) -> "StopSignals":
        """Take both signals."""
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        self.received = self.received or number
        more = ""
        if number == signal.SIGINT:
            # The system itself answers the next one, whatever this process is busy with.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            more = "; once more ends at once"
        # No print: the signal may have come in the middle of one.
        with contextlib.suppress(OSError):
            line = f"\n{signal.Signals(number).name}: ending after this step{more}\n"
            os.write(_STDERR, line.encode())
