"""Workloads for the processes that the tests of the benchmark start."""

import os
import threading
import time
from pathlib import Path

from scripts.benchmarking.child import Work


def note(*, log: str, name: str, result: float = 0.0) -> Work:
    """Writes a line when it runs."""

    def run() -> None:
        time.sleep(0.1)
        with Path(log).open("a") as file:
            file.write(f"{name} {os.getpid()}\n")

    return Work(run, lambda: result, device="toy")


def burn(*, seconds: float) -> Work:
    """Keeps a processor busy."""

    def run() -> None:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    return Work(run)


def spin() -> Work:
    """Goes on working when nobody has asked."""
    threading.Thread(target=burn(seconds=60).run, daemon=True).start()
    return Work(lambda: time.sleep(0.05))


def fail() -> Work:
    """Cannot be built."""
    raise ValueError("no toy today")


def die() -> Work:
    """Ends its process when it runs."""
    return Work(lambda: os._exit(3))


def talk() -> Work:
    """Prints where an answer might be expected."""
    return Work(lambda: print("chatter", flush=True))


def environment(*, name: str) -> str:
    """Returns a variable, for ``Child.call``."""
    return os.environ[name]
