"""How fast the host makes training batches: decode, resize, crop, collate.

    python scripts/benchmarking/input_pipeline.py FOLDER

Prints images a second by the clock, and a second of processor time (of this process and its
workers), which other load on the machine changes less.
"""

import argparse
import contextlib
import itertools
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sempart_jax.data.image_sources import ImageSource, open_images
from sempart_jax.data.pipeline import Batch, training_batches

SETTINGS = ((1, 0), (2, 0), (0, 1), (0, 2))
"""Threads and worker processes, one of them 0."""


class Rate(NamedTuple):
    """What was measured.

    Attributes:
        threads: threads that decoded; 0 where workers did.
        workers: worker processes; 0 where threads decoded.
        cached: whether resized images came from the cache.
        per_second: images a second by the clock.
        per_core: images a second of processor time; not a number where workers' time is unknown.
    """

    threads: int
    workers: int
    cached: bool
    per_second: float
    per_core: float


def measure(
    source: ImageSource,
    *,
    threads: int = 0,
    workers: int = 0,
    cached: bool = False,
    batch_size: int = 16,
    images: int = 800,
    image_size: int = 320,
    resize_size: int = 355,
) -> Rate:
    """Take batches as fast as they come.

    Args:
        source: what to train on; its files should be in the system's cache already.
        threads: threads that decode, where there are no workers.
        workers: worker processes.
        cached: keep resized images, and measure after the first epoch.
        batch_size: images a batch.
        images: how many are counted, in whole batches.
        image_size: pixels of a crop's side.
        resize_size: pixels of the short side before the crop.

    Returns:
        The rates, without the start of the workers.
    """
    batches = training_batches(
        source,
        batch_size=batch_size,
        image_size=image_size,
        resize_size=resize_size,
        seed=0,
        workers=workers,
        threads=threads,
        # Room for images of up to 3:1.
        cache_bytes=9 * resize_size**2 * len(source.names) * max(workers, 1) if cached else 0,
    )
    epoch = math.ceil(len(source.names) / batch_size)
    # Threads and workers hold some finished batches of before the start.
    ahead = 4 * max(threads, workers)
    counted = math.ceil(images / batch_size)
    with contextlib.closing(batches):
        _take(batches, ahead + (epoch if cached else 0))
        started, processor = time.perf_counter(), _processor_seconds()
        _take(batches, counted)
        seconds, used = time.perf_counter() - started, _processor_seconds() - processor
    taken = counted * batch_size
    return Rate(threads, workers, cached, taken / seconds, taken / used if used else math.nan)


def measure_all(source: ImageSource, images: int = 800) -> list[Rate]:
    """Measure all of :data:`SETTINGS`, and one thread and one worker with the cache.

    Args:
        source: what to train on.
        images: how many are counted in each.

    Returns:
        The rates, in this order.
    """
    rates = [
        measure(source, threads=threads, workers=workers, images=images)
        for threads, workers in SETTINGS
    ]
    rates += [
        measure(source, threads=threads, workers=workers, images=images, cached=True)
        for threads, workers in ((1, 0), (0, 1))
    ]
    return rates


def table(rates: Sequence[Rate]) -> str:
    """Write rates as text with aligned columns.

    Args:
        rates: what was measured.

    Returns:
        A line for each under a head.
    """
    lines = [f"{'decoded by':<12}{'cache':>7}{'images/s':>10}{'images/s of a core':>20}"]
    for rate in rates:
        count, unit = (rate.workers, "worker") if rate.workers else (rate.threads, "thread")
        name = f"{count} {unit}{'s' if count > 1 else ''}"
        cached = "yes" if rate.cached else "no"
        lines.append(f"{name:<12}{cached:>7}{rate.per_second:>10.0f}{rate.per_core:>20.0f}")
    return "\n".join(lines)


def _take(batches: Iterator[Batch], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def _processor_seconds() -> float:
    """Return the processor time of this process and its children that run."""
    seconds = time.process_time()
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if not stat.exists():
            return math.nan
        # proc(5): fields 14 and 15; the name before them, in brackets, may hold spaces.
        fields = stat.read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of images, as data.train names it")
    parser.add_argument("--images", type=int, default=800, help="counted in each setting")
    arguments = parser.parse_args()
    source = open_images(arguments.folder)
    print(f"{len(source.names)} images, {os.cpu_count()} cores")
    print(table(measure_all(source, arguments.images)))


if __name__ == "__main__":
    main()
