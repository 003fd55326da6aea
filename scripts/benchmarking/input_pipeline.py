r"""How fast the host makes training batches: decode, resize, crop, collate.

    python scripts/benchmarking/input_pipeline.py FOLDER

Flags choose the sizes and the threads or worker processes that decode. As the built-in model's
pretraining reads them:

    python scripts/benchmarking/input_pipeline.py FOLDER --image_size 128 --resize_size 128 \
        --batch_size 256 --threads --workers 8 --images 20000

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


class Rate(NamedTuple):
    """What was measured.

    Attributes:
        threads: threads that decoded; 0 where workers did.
        workers: worker processes; 0 where threads decoded.
        per_second: images a second by the clock.
        per_core: images a second of processor time; not a number where workers' time is unknown.
    """

    threads: int
    workers: int
    per_second: float
    per_core: float


def measure(
    source: ImageSource,
    *,
    threads: int = 0,
    workers: int = 0,
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
    )
    # Threads and workers hold some finished batches of before the start.
    ahead = 4 * max(threads, workers)
    counted = math.ceil(images / batch_size)
    with contextlib.closing(batches):
        _take(batches, ahead)
        started, processor = time.perf_counter(), _processor_seconds()
        _take(batches, counted)
        seconds, used = time.perf_counter() - started, _processor_seconds() - processor
    taken = counted * batch_size
    return Rate(threads, workers, taken / seconds, taken / used if used else math.nan)


def table(rates: Sequence[Rate]) -> str:
    """Write rates as text with aligned columns.

    Args:
        rates: what was measured.

    Returns:
        A line for each under a head.
    """
    lines = [f"{'decoded by':<12}{'images/s':>10}{'images/s of a core':>20}"]
    for rate in rates:
        count, unit = (rate.workers, "worker") if rate.workers else (rate.threads, "thread")
        name = f"{count} {unit}{'s' if count > 1 else ''}"
        lines.append(f"{name:<12}{rate.per_second:>10.0f}{rate.per_core:>20.0f}")
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


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def main(words: Sequence[str] | None = None) -> None:
    """Print the table.

    Args:
        words: of the command line; those of this process by default.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of images, as data.train names it")
    numbers = {
        "images": (800, "counted in each setting"),
        "image_size": (320, "pixels of a crop's side"),
        "resize_size": (355, "pixels of the short side before the crop"),
        "batch_size": (16, "images a batch"),
    }
    for name, (default, described) in numbers.items():
        described = f"{described} (default: {default})"
        parser.add_argument(f"--{name}", type=_count, default=default, help=described)
    for name in ("threads", "workers"):
        described = f"counts of {name} that decode, or none (default: 1 2)"
        parser.add_argument(f"--{name}", type=_count, nargs="*", default=[1, 2], help=described)
    arguments = parser.parse_args(words)
    if arguments.resize_size < arguments.image_size:
        parser.error(f"--resize_size must be at least --image_size, {arguments.image_size}")
    decoders = [(threads, 0) for threads in arguments.threads]
    decoders += [(0, workers) for workers in arguments.workers]
    if not decoders:
        parser.error("name a count of --threads or --workers")
    source = open_images(arguments.folder)
    print(f"{len(source.names)} images, {os.cpu_count()} cores")
    rates = [
        measure(
            source,
            threads=threads,
            workers=workers,
            batch_size=arguments.batch_size,
            images=arguments.images,
            image_size=arguments.image_size,
            resize_size=arguments.resize_size,
        )
        for threads, workers in decoders
    ]
    print(table(rates))


if __name__ == "__main__":
    main()
