"""Decoded and resized images, kept in files that all threads and processes of a run share.

Every epoch takes the images in another order, so a worker would find next to nothing in memory of
its own. Each image has a file in one folder instead, which the operating system keeps in memory as
long as there is some. Reading a crop takes the crop's rows alone.
"""

import math
import os
import struct
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import UInt8

Place = Callable[[int, int], tuple[int, int]]
"""Height and width of a resized image to the top and left pixel of its crop."""

_HEAD = struct.Struct("<3q")
_COLOURS = 3


class Crop(NamedTuple):
    """A square of an image, and of its mask.

    Attributes:
        image: uint8 ``[side, side, 3]``, RGB.
        mask: uint8 ``[side, side]``; None without a mask.
    """

    image: UInt8[np.ndarray, "side side 3"]
    mask: UInt8[np.ndarray, "side side"] | None


class PixelCache:
    """Images by number; safe for threads, picklable for other processes.

    The bound is kept by each process for what it stores itself: of one of 1 GB that four workers
    share, each is given a quarter.
    """

    def __init__(self, folder: str | os.PathLike[str], limit_bytes: int):
        """Share a folder.

        Args:
            folder: an existing folder for these images alone.
            limit_bytes: bytes of pixels that this process may store.
        """
        self._folder, self._limit = Path(folder), limit_bytes
        self._reserved = 0
        self._full = self._closed = False
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["PixelCache"], tuple[Path, int]]:
        return PixelCache, (self._folder, self._limit)

    def reserve(self, height: int, width: int, channels: int) -> bool:
        """Ask for room, once before each :meth:`store`.

        Args:
            height: height of the image in pixels.
            width: width in pixels.
            channels: 3, or 4 with a mask.

        Returns:
            Whether there is room. After the first refusal there never is.
        """
        size = height * width * channels
        with self._lock:
            self._full = self._full or self._reserved + size > self._limit
            if self._full:
                return False
            self._reserved += size
            return True

    def store(
        self, index: int, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"] | None
    ) -> None:
        """Keep an image for all processes; if that fails, say so and keep no more.

        Args:
            index: number of the image.
            image: its pixels, resized.
            mask: its mask of the same size, if it has one.
        """
        planes = [plane.tobytes() for plane in (image, mask) if plane is not None]
        head = _HEAD.pack(*image.shape[:2], _COLOURS + len(planes) - 1)
        # Others see the whole file or none.
        partial = self._folder / f"{index}.{os.getpid()}"
        with self._lock:
            if self._closed:
                return
            try:
                with partial.open("wb") as file:
                    file.writelines((head, *planes))
                partial.replace(self._path(index))
            except OSError as error:
                self._full = self._closed = True
                logging.warning("images are cached no more, but decoded each time: %s", error)
                partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Store nothing from now on, so that the folder can be removed; it waits for other threads.

        A thread that reads ahead may still be at work when its batches are wanted no more.
        """
        with self._lock:
            self._full = self._closed = True

    def crop(self, index: int, side: int, place: Place) -> Crop | None:
        """Read a square of an image that any process has stored.

        Args:
            index: number of the image.
            side: pixels of the square's sides.
            place: where the square lies; asked once, and not at all where None is returned.

        Returns:
            The crop, or None where the image is not stored as a whole.
        """
        try:
            file = self._path(index).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        with file:
            stored = os.fstat(file.fileno()).st_size
            height, width, channels = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size, b"\0"))
            if stored != _HEAD.size + height * width * channels:
                return None
            top, left = place(height, width)
            start = _HEAD.size
            image = _read_rows(file, start, top, (side, width, _COLOURS))[:, left : left + side]
            if channels == _COLOURS:
                return Crop(image, None)
            start += height * width * _COLOURS
            return Crop(image, _read_rows(file, start, top, (side, width))[:, left : left + side])

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.pixels"


def _read_rows(
    file: FileIO, start: int, first: int, shape: tuple[int, ...]
) -> UInt8[np.ndarray, "..."]:
    """Read rows from ``first`` on of a plane that begins at ``start``."""
    rows = np.empty(shape, np.uint8)
    file.seek(start + first * math.prod(shape[1:]))
    file.readinto(rows.data)
    return rows
