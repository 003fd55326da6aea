"""Run another command, and let it keep its work where this process is told to end."""

import contextlib
import signal
import subprocess
import types
from collections.abc import Iterator, Sequence


def run_command(command: Sequence[str]) -> int:
    """Run a command to its end; its input and output are those of this process.

    Where this process is asked to end, by SIGTERM or Ctrl-C, the command is asked by SIGTERM, and
    waited for: a training keeps a checkpoint first. Asked once more, it is killed.

    Args:
        command: program and arguments.

    Returns:
        Its exit status; that of the signal, negative, where one has ended it.

    Raises:
        SystemExit: after SIGTERM, with status 143.
        KeyboardInterrupt: after SIGINT.
        OSError: if the program cannot be started.
    """
    with _sigterm_raises(), subprocess.Popen(command) as process:
        try:
            return process.wait()
        except (KeyboardInterrupt, SystemExit):
            try:
                process.terminate()
                print("# ending: waiting for the command to keep what it has done", flush=True)
                process.wait()
            finally:
                process.kill()
            raise


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def end(number: int, frame: types.FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
