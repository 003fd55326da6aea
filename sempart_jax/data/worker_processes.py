"""What worker processes need of their machine, and how they end."""

import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")


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


def start_worker(worker: int, worker_count: int) -> None:
    """Tie a worker process to the run that started it; to be called in the worker.

    Args:
        worker: its number.
        worker_count: how many there are.

    Raises:
        RuntimeError: this process was started by no other.
    """
    # Ctrl-C reaches the whole process group; the run ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError(f"worker {worker} of {worker_count} was started by no process")

    def follow() -> None:
        parent.join()
        os._exit(1)

    # A run that is killed closes nothing, and its workers would stay for ever.
    threading.Thread(target=follow, daemon=True).start()
