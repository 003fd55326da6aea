"""What worker processes need of their machine, and how they end."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")


class WorkerKilledError(ChildProcessError):
    """The system has ended a worker process; the message says what to do."""

    def __init__(self, exit_code: int) -> None:
        """Say what it was."""
        self.exit_code = exit_code
        how = f"was killed (signal {-exit_code})" if exit_code < 0 else f"ended ({exit_code})"
        probably = ", probably for memory" if exit_code == -signal.SIGKILL else ""
        super().__init__(
            f"a worker process {how}{probably}: take fewer --config.data.workers, or 0 for none; "
            "the same command continues"
        )


def check_guarded(workers: int) -> None:
    """End a program that does its work again in each worker process, which imports its file."""
    if workers and getattr(multiprocessing.current_process(), "_inheriting", False):
        print(
            "error: each worker process imports the program and must not run it: put what it does "
            'under `if __name__ == "__main__":`, or set config.data.workers to 0',
            file=sys.stderr,
            flush=True,
        )
        # By a signal: it may be waiting to hand over to this process what it is to do, for ever.
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)


def check_shared_memory(needed: int) -> None:
    """Refuse what would end the workers by a bus error, without a word, once memory is full.

    Args:
        needed: bytes that workers and their run hold at once.

    Raises:
        ValueError: the machine's shared memory has less.
    """
    if not _SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if needed > free:
        raise ValueError(
            f"the workers need {needed / 1e6:.0f} MB of shared memory and {_SHARED_MEMORY} has "
            f"{free / 1e6:.0f} MB free: take fewer workers, workers=0 to decode in threads, or "
            "start the container with more (docker run --shm-size)"
        )


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let processes that are started inside never see SIGINT and SIGTERM (not on Windows).

    A terminal, and a scheduler, send them to all processes of a run; the run ends its workers
    itself, and needs their batches to the end of its step. A worker could only ignore them once it
    has started. Signals to this process come when the block ends.
    """
    if sys.platform == "win32":
        yield
        return
    # Where it is started within, it unblocks signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int, worker_count: int) -> None:
    """Tie a worker process to the run that started it; to be called in the worker."""
    # Where signals cannot be blocked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError(f"worker {worker} of {worker_count} was started by no process")

    def follow() -> None:
        parent.join()
        os._exit(1)

    # A run that is killed closes nothing, and its workers would stay for ever.
    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def killed_workers_told() -> Iterator[None]:
    """Say what to do where Grain finds inside that a worker has not ended by itself."""
    try:
        yield
    except RuntimeError as error:
        # Grain has no type for it.
        ended = re.match(r"Worker process was terminated .* exit code (-?\d+)", str(error))
        if ended is None:
            raise
        raise WorkerKilledError(int(ended[1])) from error
