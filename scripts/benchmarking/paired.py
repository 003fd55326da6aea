"""Interleaved measuring: ours, theirs, ours, theirs, ... in two processes that stay alive.

Whatever else loads the machine hits neighbouring samples alike, so that the median of the ratios of
neighbours says more than the ratio of two medians.
"""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .child import Prepared, Sample

SCRIPTS = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.1
"""Calls that are shorter are repeated to fill a sample of so much."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: what it is called in the table.
        builder: ``module:function`` that returns a ``child.Work``, called in its process.
        options: keyword arguments of the function.
        environment: variables of its process.
    """

    label: str
    builder: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two ways to do the same work.

    Attributes:
        group: group of rows, by which it is chosen on the command line.
        name: what is done.
        ours: this project's way.
        theirs: the other one.
        items: images, or calls, that one run of the work takes: times are told for one.
        per: what an item is called.
        fresh: measure new processes, from their start to the end of the first call, instead of
            warm ones.
        check: takes the results of both and returns a remark on them, or raises a
            ``DisagreementError``; see :mod:`checks`.
    """

    group: str
    name: str
    ours: Side
    theirs: Side
    items: int = 1
    per: str = "image"
    fresh: bool = False
    check: Callable[[Any, Any], str] | None = None


class Quartiles(NamedTuple):
    """Lower quartile, median and upper quartile."""

    lower: float
    median: float
    upper: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was measured of a pair.

    Attributes:
        pair: the pair.
        ours: samples, seconds of one call.
        theirs: as many samples, each taken right after ours.
        prepared: imports, first and second call of both sides; ``None`` where each sample is that.
        remark: what there is to say of the results, where they are compared.
    """

    pair: Pair
    ours: list[Sample]
    theirs: list[Sample]
    prepared: tuple[Prepared, Prepared] | None
    remark: str | None

    def seconds(self, side: str) -> Quartiles:
        """Quartiles of the seconds an item of side ``ours`` or ``theirs``."""
        return quartiles([sample.wall / self.pair.items for sample in getattr(self, side)])

    def ratio(self) -> Quartiles:
        """Quartiles of ours over theirs, each of two neighbouring samples."""
        both = zip(self.ours, self.theirs, strict=True)
        return quartiles([ours.wall / theirs.wall for ours, theirs in both])

    def cpu_ratio(self) -> Quartiles:
        """The same of processor seconds, which other load on the machine moves less."""
        both = zip(self.ours, self.theirs, strict=True)
        return quartiles([ours.cpu / theirs.cpu for ours, theirs in both])


@dataclasses.dataclass(frozen=True)
class Failure:
    """A pair that could not be measured.

    Attributes:
        pair: the pair.
        error: why, with the traceback of the side that failed.
    """

    pair: Pair
    error: str


def quartiles(values: list[float]) -> Quartiles:
    """Return the quartiles of at least one value, linearly interpolated."""
    return Quartiles(*(float(value) for value in np.quantile(values, [0.25, 0.5, 0.75])))


class Child:
    """A process that runs the workload of one side."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            environment: variables beside those of this process.
        """
        self._connection, theirs = multiprocessing.Pipe()
        paths = [str(SCRIPTS), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from benchmarking import child; child.main()",
                str(theirs.fileno()),
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> Any:
        """Send a request and wait for the answer.

        Raises:
            RuntimeError: the process has failed or ended.
        """
        try:
            self._connection.send((name, arguments))
            error, answer = self._connection.recv()
        except (EOFError, ConnectionError) as end:
            status = self._process.wait()
            raise RuntimeError(
                f"a process of the benchmark has ended with status {status} while asked to {name}; "
                "-9 often means that memory is full"
            ) from end
        if error is not None:
            raise RuntimeError(f"a process of the benchmark failed to {name}:\n{error}")
        return answer

    def prepare(self, side: Side) -> Prepared:
        """Build the workload and run it twice."""
        module, function = side.builder.split(":")
        return Prepared(**self.ask("prepare", module, function, dict(side.options)))

    def call(self, side: Side) -> Any:
        """Call the function of a side and return what it returns."""
        module, function = side.builder.split(":")
        return self.ask("call", module, function, dict(side.options))

    def sample(self, calls: int) -> Sample:
        """Run the workload so many times."""
        return Sample(**self.ask("sample", calls))

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def started(side: Side) -> Iterator[Child]:
    """A child for a side, which ends with the block."""
    child = Child(side.environment)
    try:
        yield child
    finally:
        child.stop()


def measure(pair: Pair, samples: int) -> Comparison:
    """Measure both sides of a pair in turns.

    Args:
        pair: what to measure.
        samples: of each side.

    Raises:
        RuntimeError: a side has failed.
        DisagreementError: the results of both are too far apart.
    """
    if pair.fresh:
        both = [(_first_call(pair.ours), _first_call(pair.theirs)) for _ in range(samples + 1)]
        # The first ones read libraries from the disk, and may fill a cache.
        return Comparison(pair, [o for o, _ in both[1:]], [t for _, t in both[1:]], None, None)
    with started(pair.ours) as ours, started(pair.theirs) as theirs:
        # One after the other: two compilations at once would be timed wrongly.
        prepared = (ours.prepare(pair.ours), theirs.prepare(pair.theirs))
        remark = pair.check(ours.ask("result"), theirs.ask("result")) if pair.check else None
        calls = [max(1, math.ceil(SAMPLE_SECONDS / max(p.second, 1e-6))) for p in prepared]
        both = [(ours.sample(calls[0]), theirs.sample(calls[1])) for _ in range(samples)]
    return Comparison(pair, [o for o, _ in both], [t for _, t in both], prepared, remark)


def _first_call(side: Side) -> Sample:
    started_at = time.perf_counter()
    with started(side) as child:
        prepared = child.prepare(side)
        # The second call, which is no part of it, lies at the end.
        wall = time.perf_counter() - started_at - prepared.second
    return Sample(wall, prepared.cpu, 0.0)
