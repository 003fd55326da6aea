"""A process that runs one workload whenever it is told to, and sleeps in between.

Started and asked by :mod:`paired`.
"""

import contextlib
import dataclasses
import gc
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Work:
    """What a workload's builder returns.

    Attributes:
        run: does the whole work once and returns when it is done.
        result: returns what it computed, as NumPy arrays, to be compared with the other side's.
        device: what it runs on.
        settle: brings it into a steady state before each sample, untimed.
        calm: ends what still goes on after a sample, untimed, so that the other side is alone.
    """

    run: Callable[[], Any]
    result: Callable[[], Any] = lambda: None
    device: str = "cpu"
    settle: Callable[[], Any] = lambda: None
    calm: Callable[[], Any] = lambda: None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What it took to get a workload going, in seconds.

    Attributes:
        build: imports included.
        first: first call, compilation included.
        second: second call.
        cpu: processor seconds from the start of the process to the end of the first call.
        device: what it runs on.
    """

    build: float
    first: float
    second: float
    cpu: float
    device: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """Seconds of one call, averaged over the calls of a sample.

    Attributes:
        wall: seconds by the clock.
        cpu: processor seconds, see :func:`processor_seconds`.
        idle_cpu: processor seconds since the last sample: the other side's time was disturbed by
            as much.
    """

    wall: float
    cpu: float
    idle_cpu: float


def processor_seconds() -> float:
    """Processor seconds of this process and, in hundredths, of those that it has started."""
    ticks, waiting = 0, _children("self")
    while waiting:
        process = waiting.pop()
        # It may have ended by now.
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold spaces; utime and stime are fields 14 and 15.
            fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            waiting += _children(process)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _children(process: str) -> list[str]:
    threads = Path("/proc", process, "task").iterdir()
    return [child for thread in threads for child in (thread / "children").read_text().split()]


class _Server:
    def __init__(self) -> None:
        self._work: Work | None = None
        self._cpu = processor_seconds()

    def call(self, module: str, function: str, options: dict[str, Any]) -> Any:
        return getattr(importlib.import_module(module), function)(**options)

    def prepare(self, module: str, function: str, options: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        work: Work = self.call(module, function, options)
        built = time.perf_counter()
        work.run()
        first, cpu = time.perf_counter(), processor_seconds()
        work.run()
        second = time.perf_counter()
        work.calm()
        gc.collect()
        self._work, self._cpu = work, processor_seconds()
        prepared = Prepared(built - started, first - built, second - first, cpu, work.device)
        return dataclasses.asdict(prepared)

    def sample(self, calls: int) -> dict[str, Any]:
        work = self._ready()
        idle_cpu = processor_seconds() - self._cpu
        work.settle()
        cpu, wall = processor_seconds(), time.perf_counter()
        for _ in range(calls):
            work.run()
        wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
        work.calm()
        self._cpu = processor_seconds()
        return dataclasses.asdict(Sample(wall / calls, cpu / calls, idle_cpu))

    def result(self) -> Any:
        result = self._ready().result()
        self._cpu = processor_seconds()
        return result

    def _ready(self) -> Work:
        if self._work is None:
            raise RuntimeError("no workload is prepared")
        return self._work


def main() -> None:
    """Answer requests ``(name, arguments)`` by ``(error, answer)`` until the parent hangs up."""
    connection = Connection(int(sys.argv[1]))
    server = _Server()
    # What libraries print must not mix with the parent's table.
    os.dup2(2, 1)
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((None, getattr(server, name)(*arguments)))
        # Whatever it is, the parent raises it again, with this traceback.
        except Exception:
            connection.send((traceback.format_exc(), None))
