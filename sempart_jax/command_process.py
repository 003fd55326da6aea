"""Run another command, and let it keep its work where this process is told to end."""

import contextlib
import signal
import subprocess
import types
from collections.abc import Callable, Iterator, Sequence

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_command(command: Sequence[str]) -> int:
    """Run a command to its end; its input and output are those of this process.

    Where this process is asked to end, by SIGTERM or Ctrl-C, the command is asked by SIGTERM, and
    waited for: a training keeps a checkpoint first. Asked once more, it is killed. In the main
    thread alone.

    Args:
        command: program and arguments.

    Returns:
        Its exit status; that of the signal, negative, where one has ended it.

    Raises:
        SystemExit: after SIGTERM, with status 143.
        KeyboardInterrupt: after SIGINT.
        OSError: if the program cannot be started.
    """
    asked: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on() -> None:
        if process is None:
            return
        if len(asked) > 1:
            process.kill()
        else:
            process.terminate()
            print("# ending: waiting for the command to keep what it has done", flush=True)

    def notice(number: int, frame: types.FrameType | None) -> None:
        asked.append(number)
        pass_on()

    # An exception out of a handler could come before the process that was started is known.
    with _answered_by(notice):
        process = subprocess.Popen(command)
        if asked:
            pass_on()
        status = process.wait()
    if not asked:
        return status
    if asked[0] == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + asked[0])


@contextlib.contextmanager
def _answered_by(handler: Callable[[int, types.FrameType | None], None]) -> Iterator[None]:
    # What runs in the background, as by nohup, may be told to ignore one of them.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
