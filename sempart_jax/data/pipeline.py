"""Training batches of images, and of their masks: shuffled, cropped, resumable at any step (grain).

The batch of step ``k`` is a function of the images, the seed, the sizes, the batch size and ``k``
alone. There is no state to save: a run resumes with ``start_step=k``, and neither the number of
threads, of worker processes nor of hosts changes what is trained on.
"""

import atexit
import contextlib
import hashlib
import inspect
import os
import weakref
from collections.abc import Generator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image

from sempart_jax.data.image_sizes import resized_crop, short_side_shape
from sempart_jax.data.image_sources import ImageSource, MaskedSource, read_pair
from sempart_jax.data.images import NoReadableImageError, UnreadableImageError
from sempart_jax.host.worker_processes import (
    check_guarded,
    check_shared_memory,
    killed_workers_told,
    signals_blocked,
    start_worker,
)

MAXIMUM_THREADS = 8
BUFFERED = 1
"""Finished batches that wait at each end of the way out of a worker process."""

_SHOWN = 5


class Batch(NamedTuple):
    """What one training step takes.

    Attributes:
        image: uint8 ``[local batch, size, size, 3]``, RGB.
        unreadable: ``(path, reason)`` of files met for the first time that could not be read; in
            this batch other images stand in for them.
        mask: uint8 ``[local batch, size, size]``, 255 is foreground, cut as the images are; None
            where the source has no masks.
    """

    image: UInt8[np.ndarray, "B size size 3"]
    unreadable: tuple[tuple[str, str], ...]
    mask: UInt8[np.ndarray, "B size size"] | None = None


def training_batches(
    source: ImageSource,
    *,
    batch_size: int,
    image_size: int = 320,
    resize_size: int = 355,
    seed: int,
    start_step: int = 0,
    workers: int = 0,
    threads: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Generator[Batch, None, None]:
    """Yield training batches without end, from step ``start_step`` on.

    Every epoch takes every image once, in an order of its own; a batch may span two epochs, so
    that after ``k`` steps exactly ``k * batch_size`` images have been taken. Each image has its
    short side resized to ``resize_size`` and is cropped to a square at a uniformly random place
    (two tricks, Sec. 5). An image that cannot be read, or whose sides differ by more than
    :data:`sempart_jax.data.image_sizes.MAXIMUM_ASPECT_RATIO`, is replaced by the next readable one
    of ``source``, and its batch names it. Where the source has masks, each is resized and cropped
    as its image is, and an image whose mask cannot be read is replaced too.

    Close the generator to end its threads and processes; losing the last reference to it or
    leaving the program does the same.

    Args:
        source: images in a fixed order, see :func:`sempart_jax.data.image_sources.open_images`,
            or ``sempart_jax.segmentation.pseudo_masks.open_pseudo_masks`` for images with masks.
        batch_size: images a step over all processes of the run.
        image_size: pixels of a crop's side.
        resize_size: pixels of the short side before the crop.
        seed: not negative; decides order and crops.
        start_step: number of the first batch, not negative.
        workers: worker processes that decode; 0 decodes in threads of this process.
        threads: threads that decode where there are no workers; 0: one a core, at most
            :data:`MAXIMUM_THREADS`.
        process_index: which of the run's processes this one is. Its ``i``-th image is number
            ``i * process_count + process_index`` of the step's batch.
        process_count: processes of the run; each takes its share of every batch.

    Returns:
        A generator of batches of ``batch_size // process_count`` images.

    Raises:
        ValueError: at once, where the arguments make no sense together, or the workers' batches do
            not fit into the machine's shared memory.
        NoReadableImageError: from the first batch, where no file can be read.
        WorkerKilledError: from any batch.
    """
    if not source.names:
        raise ValueError("no image to train on: the source is empty")
    if batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} must be a multiple of the {process_count} processes"
        )

    local_size = batch_size // process_count
    check_guarded(workers)
    if workers:
        # Each worker makes one batch and buffers some; for each, a thread here does the same.
        held = 2 * (BUFFERED + 1) * workers + 1
        channels = 4 if isinstance(source, MaskedSource) else 3
        check_shared_memory(held * local_size * image_size * image_size * channels)

    first = start_step * batch_size + process_index
    dataset = (
        grain.MapDataset.range(len(source.names))
        .seed(seed)
        .shuffle()
        .repeat()
        # Before the slice: the random crop is drawn by the position in the whole run.
        .random_map(_Load(source, image_size, resize_size))
        .slice(slice(first, None, process_count))
        .batch(local_size, drop_remainder=True, batch_fn=_collate)
    )
    # Each thread makes a whole batch; the buffer counts batches.
    if workers:
        threads = 0
    elif not threads:
        threads = min(os.cpu_count() or 1, MAXIMUM_THREADS)
    batches = dataset.to_iter_dataset(grain.ReadOptions(threads, threads))
    if workers:
        # Worker processes ask grain's command line flags, which a program without absl.app never
        # parses; what it never parsed has its default.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=BUFFERED)
        batches = batches.mp_prefetch(options, worker_init_fn=start_worker)
    generator = _without_repeated_reports(batches, workers=workers > 0)
    # Where a program ends without closing: once modules are torn down, closing fails loudly.
    atexit.register(_close, weakref.ref(generator))
    return generator


def fingerprint(names: Sequence[str]) -> str:
    """Return a short hash of the images' names, to notice on resuming that the data set changed.

    16 hexadecimal digits, which follow from the order in which they are trained on, too.
    """
    # No file name holds a zero byte, so different lists never join to the same text.
    return hashlib.sha256(os.fsencode("\0".join(names))).hexdigest()[:16]


class _Record(NamedTuple):
    image: UInt8[np.ndarray, "size size 3"]
    mask: UInt8[np.ndarray, "size size"] | None
    unreadable: tuple[tuple[str, str], ...]


class _Load(grain.transforms.RandomMap):
    """The index of an image to its random crop, or to that of the next readable image."""

    def __init__(self, source: ImageSource, image_size: int, resize_size: int):
        self._source, self._image_size, self._resize_size = source, image_size, resize_size
        self._unreadable: dict[int, tuple[str, str]] = {}

    def random_map(self, element: int, rng: np.random.Generator) -> _Record:
        count = len(self._source.names)
        unreadable: list[tuple[str, str]] = []
        for index in ((element + offset) % count for offset in range(count)):
            # Known failures are not tried again: a folder of mostly broken files stays fast.
            if index not in self._unreadable:
                try:
                    pair = read_pair(self._source, index)
                    return _Record(*self._crop(*pair, rng), tuple(unreadable))
                except UnreadableImageError as error:
                    self._unreadable[index] = (error.path, error.reason)
            unreadable.append(self._unreadable[index])
        raise NoReadableImageError(count, tuple(unreadable[:_SHOWN]))

    def _crop(
        self, image: Image.Image, mask: Image.Image | None, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"] | None]:
        size, resize_size = self._image_size, self._resize_size
        shape = short_side_shape(image.height, image.width, resize_size)
        top, left = map(int, rng.integers(0, np.array(shape) - size, endpoint=True))
        return (
            resized_crop(image, resize_size, top, left, size),
            None if mask is None else resized_crop(mask, resize_size, top, left, size),
        )


def _collate(records: Sequence[_Record]) -> Batch:
    image = np.stack([record.image for record in records])
    masks = [record.mask for record in records if record.mask is not None]
    unreadable = tuple(failure for record in records for failure in record.unreadable)
    return Batch(image, unreadable, np.stack(masks) if masks else None)


def _without_repeated_reports(
    batches: grain.IterDataset[Batch], *, workers: bool
) -> Generator[Batch, None, None]:
    """Name each unreadable file once, whichever workers met it.

    A worker's arrays are shared memory, which must not outlive this iterator: those are copied.
    """
    reported: set[str] = set()
    starting = signals_blocked if workers else contextlib.nullcontext
    with starting():
        iterator = iter(batches)
    try:
        while True:
            with starting(), killed_workers_told():
                batch = next(iterator)
            new = {path: reason for path, reason in batch.unreadable if path not in reported}
            reported.update(new)
            image, mask = batch.image, batch.mask
            if workers:
                image, mask = np.array(image), None if mask is None else np.array(mask)
            del batch
            yield Batch(image, tuple(new.items()), mask)
            del image, mask
    finally:
        iterator.close()


def _close(reference: weakref.ref[Generator[Batch, None, None]]) -> None:
    generator = reference()
    # One that a thread is stuck in cannot be closed.
    if generator is not None and inspect.getgeneratorstate(generator) != inspect.GEN_RUNNING:
        generator.close()
