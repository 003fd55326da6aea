"""Image files to arrays: the one place where image files are opened and decoded.

Everything that may be wrong with a file ends in :class:`UnreadableImageError`, so that a caller
has one thing to catch and a message that names the file.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import TypeVar

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from sempart_jax.data.masks import mask_levels
from sempart_jax.host.errors import ExpectedError
from sempart_jax.host.shown_names import printable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats by content, whatever the file is called. Those that run other programs are left out."""

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (EXIF 2.32, tag 0x0112; 1 is upright)."""

Result = TypeVar("Result")

# What was told of the masks of a folder, which threads may read at once.
_told: set[tuple[str, str]] = set()
_telling = threading.Lock()

# The warning filters belong to the whole process: two threads that change them at once would
# leave them changed.
_warning_filters = threading.Lock()


class UnreadableImageError(Exception):
    """An image file that cannot be decoded.

    Attributes:
        path: the file.
        reason: what is wrong with it, in words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        self.path = os.fspath(path)
        self.reason = reason
        # The arguments alone rebuild the error on its way out of a worker process.
        super().__init__(self.path, reason)

    def __str__(self) -> str:
        return f"cannot read the image {printable(self.path)}: {self.reason}"


class NoReadableImageError(ExpectedError):
    """Not one file of the data set can be read.

    Attributes:
        count: how many files there are.
        examples: ``(path, reason)`` of a few of them.
    """

    def __init__(self, count: int, examples: tuple[tuple[str, str], ...]):
        self.count = count
        self.examples = examples
        # The arguments alone rebuild the error on its way out of a worker process.
        super().__init__(count, examples)

    def __str__(self) -> str:
        lines = [f"  {printable(path)}: {reason}" for path, reason in self.examples]
        return "\n".join(
            [f"none of the {self.count} files can be read as an image, among them:", *lines]
        )


def open_image(
    source: str | os.PathLike[str] | bytes, name: str | None = None, mode: str = "RGB"
) -> Image.Image:
    """Decode an image file as it is meant to be seen.

    The EXIF orientation is applied. Grey, palette and CMYK images become RGB, an alpha channel is
    dropped, 16-bit images are scaled to 8 bits, and of several frames the first is taken.

    Args:
        source: a file in one of :data:`FORMATS`, whatever its extension, or the content of one.
        name: what to call it in an error; required for bytes, and by default the path.
        mode: ``RGB`` or ``L``.

    Returns:
        The image, decoded, its file closed.

    Raises:
        UnreadableImageError: the file is missing, forbidden, truncated, no image, or too large.
    """
    return _decode(
        source,
        os.fsdecode(source) if name is None else name,
        lambda image, orientation: _upright(_convert(image, mode), orientation),
    )


def _decode(
    source: str | os.PathLike[str] | bytes, name: str, use: Callable[[Image.Image, int], Result]
) -> Result:
    """Use an image file and its orientation; what may be wrong is an UnreadableImageError."""
    try:
        image, orientation = _open(io.BytesIO(source) if isinstance(source, bytes) else source)
        with image:
            image.load()
            return use(image, orientation)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise UnreadableImageError(name, f"not an image in one of the formats {formats}") from error
    except OSError as error:
        raise UnreadableImageError(name, error.strerror or str(error)) from error
    # Decoders meet damaged files with nearly anything: struct.error, SyntaxError, zlib.error, ...
    except Exception as error:
        raise UnreadableImageError(name, f"{type(error).__name__}: {error}") from error


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file, see :func:`open_image`, as uint8 ``[H, W, 3]``, writable."""
    return np.array(open_image(path))


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the content of an image file as :func:`read_image` reads the file."""
    return np.array(open_image(data, name))


def read_grey(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W"]:
    """Read a mask file: the one reader of ground truths, predictions and masks to learn from.

    See :func:`sempart_jax.data.masks.mask_levels` for the encodings that it takes. Of a mask that
    is not plain grey, a warning tells what was assumed, once for its folder.

    Args:
        path: a file in one of :data:`FORMATS`, whatever its extension.

    Returns:
        uint8 ``[H, W]``, writable; 0 is background, 255 is foreground.

    Raises:
        UnreadableImageError: it cannot be decoded, or may mean several things.
    """
    return _read_mask(path, os.fsdecode(path))


def decode_grey(data: bytes, name: str, folder: str | None = None) -> UInt8[np.ndarray, "H W"]:
    """Decode the content of a mask file as :func:`read_grey` reads the file.

    Args:
        data: content of the file.
        name: what to call it in messages.
        folder: what it lies in; by default, ``name`` without its last part.
    """
    return _read_mask(data, name, folder)


def _read_mask(
    source: str | os.PathLike[str] | bytes, name: str, folder: str | None = None
) -> UInt8[np.ndarray, "H W"]:
    def read(image: Image.Image, orientation: int) -> tuple[Image.Image, str]:
        try:
            levels, assumed = mask_levels(image)
        except ValueError as error:
            raise UnreadableImageError(
                name, f"{error}: store a grey mask with 0 for background and 255 for foreground"
            ) from error
        return _upright(Image.fromarray(levels), orientation), assumed

    levels, assumed = _decode(source, name, read)
    if assumed:
        folder = str(PurePath(name).parent) if folder is None else folder
        with _telling:
            is_new = (folder, assumed) not in _told
            _told.add((folder, assumed))
        if is_new:
            logging.warning(
                "the mask %s is not plain grey: %s. Others in %s that are alike are not named",
                printable(name),
                assumed,
                printable(folder),
            )
    return np.array(levels)


def check_foreground(masks: Iterable[str | os.PathLike[str]]) -> None:
    """Make sure that there is something to find in a data set: one mask with foreground will do.

    Args:
        masks: mask files. What cannot be read is passed over: whoever uses it names it.

    Raises:
        ValueError: some can be read, and none has foreground.
    """
    empty = []
    for path in masks:
        try:
            if (read_grey(path) > 127).any():
                return
        except UnreadableImageError:
            continue
        empty.append(os.fsdecode(path))
    if empty:
        raise ValueError(
            f"none of the {len(empty)} masks that can be read has foreground, such as "
            f"{printable(empty[0])}: foreground is white, above half of the range of grey levels"
        )


def rgb_pixels(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Turn an image of Pillow into what :func:`read_image` gives of its file.

    Args:
        image: opened or made, in any mode that Pillow converts to RGB; it is left as it is, but for
            being loaded.

    Returns:
        uint8 ``[H, W, 3]`` in 0..255, writable.

    Raises:
        OSError: its file is truncated.
        ValueError: its pixels have no fixed range, or no way to RGB.
    """
    # Pillow turns a TIFF upright while it loads it, and forgets the orientation then.
    image.load()
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        orientation = _orientation(image)
    return np.array(_upright(_convert(image, "RGB"), orientation))


def count_pixels(source: str | os.PathLike[str] | bytes) -> int:
    """Read from a file's head how many pixels it will take.

    Args:
        source: the file, or its content.

    Returns:
        Number of pixels; 0 if that cannot be said, and whoever reads the file finds out why.
    """
    if not isinstance(source, bytes) and not os.path.isfile(source):  # noqa: PTH113
        return 0
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(opened, formats=FORMATS) as image:
            return image.width * image.height
    # Decoders meet damaged files with nearly anything, and Pillow warns of large ones.
    except Exception:
        return 0


def _open(source: str | os.PathLike[str] | io.BytesIO) -> tuple[Image.Image, int]:
    """Open a file without decoding the pixels, and return its EXIF orientation too."""
    if not isinstance(source, io.BytesIO) and not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116
        # To open a pipe would wait for ever, a device may have no end.
        raise OSError("a directory, pipe or device, no regular file")
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(source, formats=FORMATS)
        orientation = _orientation(image)
    if image.format == "TIFF":
        # PIL turns these upright itself when it decodes them.
        orientation = 1
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are more than the limit of {limit}")
    return image, orientation


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation."""
    try:
        # The method of the base class: that of PNG decodes all pixels, here under the lock.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Damaged metadata is no reason to lose the pixels.
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    if orientation not in _ORIENTATIONS:
        return image
    return image.transpose(_ORIENTATIONS[orientation])


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Bring an image to ``RGB`` or ``L``."""
    pixels = _to_eight_bits(image)
    if "transparency" in pixels.info:
        # Alpha is dropped either way, and PIL warns where a palette has some.
        pixels = pixels.copy()
        del pixels.info["transparency"]
    # To the mode that it has already, PIL converts by a copy.
    for wanted in ("RGB", mode):
        pixels = pixels if pixels.mode == mode else pixels.convert(wanted)
    return pixels


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where PIL would clip it at 255; leave other modes alone."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range: store 8 or 16 bits")
    if not image.mode.startswith("I"):
        image.load()
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixels of more than 16 bits have no fixed range: store 8 or 16 bits")
    # round(v 255 / 65535)
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
