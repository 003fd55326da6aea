"""Images in a stream: read ahead, predicted in full batches, finished behind.

Threads read and bring images to one of the network's few sizes; the main thread begins a batch as
soon as one of a size is full, and then takes the masks of the one before; other threads
post-process and write meanwhile. Pixels of images that are read and not yet written are bounded:
where the bound is reached, batches go out that are not full.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np

from sempart_jax.data.folder import file_stamp
from sempart_jax.data.images import (
    Photograph,
    UnreadableImageError,
    count_pixels,
    read_photograph,
)
from sempart_jax.host.pixel_budget import PixelBudget
from sempart_jax.predict.predictor import IN_FLIGHT, Predictor
from sempart_jax.segmentation.finishing import UnfinishedImageError
from sempart_jax.segmentation.inputs import ImageFile

HELD_PIXELS = 160_000_000
"""Pixels in memory between reading and writing, of three bytes each, or four with transparency; a
larger image goes alone."""


class _Read(NamedTuple):
    file: ImageFile
    pixels: int
    stamp: str
    photograph: Photograph
    network_input: np.ndarray
    seconds: float


class Stream:
    """One pass over images; made anew for each."""

    def __init__(
        self,
        predictor: Predictor,
        finish: Callable[[ImageFile, str, Photograph, np.ndarray, float], None],
        report: Callable[[ImageFile, str | None], None],
        *,
        threads: int | None = None,
        held_pixels: int = HELD_PIXELS,
    ) -> None:
        """Choose what is done to the images.

        Args:
            predictor: what predicts; called from the thread that calls :meth:`run`.
            finish: a ``finishing.Finisher``, called from several threads.
            report: called from any thread when an image is finished, or with a reason where not.
            threads: that read, and as many that finish; the number of cores by default.
            held_pixels: bound of the pixels in memory.
        """
        count = threads or os.cpu_count() or 1
        self._predictor, self._finish, self._report = predictor, finish, report
        self._readers = ThreadPoolExecutor(count, "read")
        self._finishers = ThreadPoolExecutor(count, "finish")
        self._ahead = 2 * count
        self._held = PixelBudget(held_pixels)
        self._reading: deque[Future[_Read | None]] = deque()
        self._waiting: dict[tuple[int, ...], list[_Read]] = {}
        self._in_flight: deque[tuple[list[_Read], float, Callable[[], np.ndarray]]] = deque()
        self._arrived = 0.0
        self._finishing: deque[Future[None]] = deque()

    def run(self, files: Iterable[ImageFile]) -> None:
        """Segment all; an image that fails is reported, and the others go on.

        Raises:
            UnwritableOutputError: if no output can be written any more. What has been finished is
                kept, then and after any other error or an interruption.
        """
        try:
            for file in files:
                pixels = count_pixels(file.path)
                while not self._held.try_acquire(pixels):
                    self._make_room()
                self._reading.append(self._readers.submit(self._read, file, pixels))
                if len(self._reading) > self._ahead:
                    self._take()
            while self._reading:
                self._take()
            while self._waiting:
                self._predict_fullest()
            while self._in_flight:
                self._fetch()
            while self._finishing:
                self._finishing.popleft().result()
        finally:
            for pool in (self._readers, self._finishers):
                pool.shutdown(cancel_futures=True)

    def _make_room(self) -> None:
        if self._reading:
            self._take()
        elif self._in_flight:
            self._fetch()
        elif unfinished := [future for future in self._finishing if not future.done()]:
            # It would cost a whole batch to predict for a part of one.
            wait(unfinished, return_when=FIRST_COMPLETED)
        elif self._waiting:
            self._predict_fullest()

    def _take(self) -> None:
        """Take the next image that has been read to those of its size."""
        read = self._reading.popleft().result()
        if read is not None:
            shape = read.network_input.shape
            self._waiting.setdefault(shape, []).append(read)
            if len(self._waiting[shape]) == self._predictor.batch_size:
                self._predict(shape)

    def _predict_fullest(self) -> None:
        self._predict(max(self._waiting, key=lambda shape: len(self._waiting[shape])))

    def _predict(self, shape: tuple[int, ...]) -> None:
        """Begin with all that wait for one size, and pass on what was begun before."""
        batch = self._waiting.pop(shape)
        started = time.perf_counter()
        masks = self._predictor.start(np.stack([read.network_input for read in batch]))
        self._in_flight.append((batch, started, masks))
        if len(self._in_flight) == IN_FLIGHT:
            self._fetch()

    def _fetch(self) -> None:
        """Wait for the masks of the batch that was begun first, and pass them on."""
        batch, started, fetch = self._in_flight.popleft()
        masks = fetch()
        # Before the batch in front of it had arrived, the device was at that one.
        since, self._arrived = max(started, self._arrived), time.perf_counter()
        share = (self._arrived - since) / len(batch)
        for read, mask in zip(batch, masks, strict=True):
            self._finishing.append(self._finishers.submit(self._finish_one, read, mask, share))
        # Errors show as soon as the main thread is free.
        while self._finishing and self._finishing[0].done():
            self._finishing.popleft().result()

    def _read(self, file: ImageFile, pixels: int) -> _Read | None:
        started = time.perf_counter()
        # Before the file is read: what changes meanwhile is noticed the next time.
        stamp = file_stamp(file.path)
        try:
            photograph = read_photograph(file.path)
            network_input = self._predictor.network_input(photograph.pixels)
        except (UnreadableImageError, MemoryError) as error:
            memory = f"not enough memory for {pixels} pixels"
            self._held.release(pixels)
            self._report(file, error.reason if isinstance(error, UnreadableImageError) else memory)
            return None
        seconds = time.perf_counter() - started
        return _Read(file, pixels, stamp, photograph, network_input, seconds)

    def _finish_one(self, read: _Read, mask: np.ndarray, share: float) -> None:
        try:
            self._finish(read.file, read.stamp, read.photograph, mask, read.seconds + share)
        except UnfinishedImageError as error:
            self._report(read.file, str(error))
        else:
            self._report(read.file, None)
        finally:
            self._held.release(read.pixels)
