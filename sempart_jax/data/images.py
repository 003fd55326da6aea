"""Image files to arrays: the one place where image files are opened and decoded.

Everything that may be wrong with a file ends in :class:`UnreadableImageError`, so that a caller
has one thing to catch and a message that names the file. Images are uint8 RGB, masks are uint8
grey or bool. Files and the bytes of files go the same way.
"""

import io
import os
import stat
import threading
import warnings

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from sempart_jax.data.folder import printable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats by content, whatever the file is called. Those that run other programs are left out."""

MAXIMUM_ASPECT_RATIO = 20
"""Long side over short side from which an image is not cropped after its short side was resized.
Resized to a short side of 355, such a strip has 7,100 x 355 pixels (7.6 MB), and a square crop
shows a 20th of it; one of 20,000 x 1 would take 7.6 GB."""

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


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file as it is meant to be seen, in RGB.

    The EXIF orientation is applied. Grey, palette and CMYK images become RGB, an alpha channel is
    dropped, 16-bit images are scaled to 8 bits, and of several frames the first is taken.

    Args:
        path: a file in one of :data:`FORMATS`, whatever its extension.

    Returns:
        uint8 ``[H, W, 3]`` in 0..255, writable.

    Raises:
        UnreadableImageError: the file is missing, forbidden, truncated, no image, or too large.
    """
    return np.array(read_pillow(path))


def read_pillow(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file as :func:`read_image` does, without a copy of its pixels as an array.

    Args:
        path: a file in one of :data:`FORMATS`, whatever its extension.

    Returns:
        The image in mode RGB, decoded, its file closed.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    return _read(path, path, "RGB")


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decode the bytes of an image file as :func:`read_image` reads the file.

    Args:
        data: content of a file in one of :data:`FORMATS`.
        name: what to call it in an error.

    Returns:
        uint8 ``[H, W, 3]`` in 0..255, writable.

    Raises:
        UnreadableImageError: the bytes are truncated, no image, or too large an image; its ``path``
            is ``name``.
    """
    return np.array(decode_pillow(data, name))


def decode_pillow(data: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file as :func:`read_pillow` reads the file.

    Args:
        data: content of a file in one of :data:`FORMATS`.
        name: what to call it in an error.

    Returns:
        The image in mode RGB, decoded.

    Raises:
        UnreadableImageError: as :func:`decode_image`.
    """
    return _read(io.BytesIO(data), name, "RGB")


def read_grey(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W"]:
    """Read the grey levels of a mask file, upright.

    Colours, of a palette too, count by their luma (ITU-R BT.601), so a grey mask stored as RGB
    reads as the same mask stored as grey. 16 bits are scaled to 8, one bit gives 0 and 255.

    Args:
        path: a file in one of :data:`FORMATS`, whatever its extension.

    Returns:
        uint8 ``[H, W]`` in 0..255, writable.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    return np.array(_read(path, path, "L"))


def decode_grey(data: bytes, name: str) -> UInt8[np.ndarray, "H W"]:
    """Decode the bytes of a mask file as :func:`read_grey` reads the file.

    Args:
        data: content of a file in one of :data:`FORMATS`.
        name: what to call it in an error.

    Returns:
        uint8 ``[H, W]`` in 0..255, writable.

    Raises:
        UnreadableImageError: as :func:`decode_image`.
    """
    return np.array(_read(io.BytesIO(data), name, "L"))


def read_mask(path: str | os.PathLike[str]) -> Bool[np.ndarray, "H W"]:
    """Read a mask file: foreground is what is brighter than half of the range.

    Args:
        path: a file whose grey levels are those of :func:`read_grey`.

    Returns:
        bool ``[H, W]``, true where the 8-bit grey value is above 127.

    Raises:
        UnreadableImageError: as :func:`read_image`.
    """
    return read_grey(path) > 127


def count_pixels(path: str | os.PathLike[str]) -> int:
    """Read from a file's head how many pixels it will take.

    Args:
        path: the file.

    Returns:
        Number of pixels; 0 if that cannot be said, and whoever reads the file finds out why.
    """
    if not os.path.isfile(path):  # noqa: PTH113
        return 0
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.width * image.height
    # Decoders meet damaged files with nearly anything, and Pillow warns of large ones.
    except Exception:
        return 0


def short_side_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the shape at which the shorter side has ``size`` pixels.

    The longer side becomes ``int(size * long / short)``, rounded down, as in torchvision's
    ``Resize(size)`` for PIL images.

    Args:
        height: pixels, at least 1.
        width: pixels, at least 1.
        size: pixels of the shorter side, at least 1.

    Returns:
        Height and width.

    Raises:
        ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    long = int(size * max(height, width) / min(height, width))
    return (size, long) if width >= height else (long, size)


def check_aspect_ratio(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Refuse an image whose resized short side would make a huge long one.

    Args:
        path: the image, for the message.
        height: pixels, at least 1.
        width: pixels, at least 1.

    Raises:
        UnreadableImageError: one side is more than :data:`MAXIMUM_ASPECT_RATIO` times the other.
    """
    if max(height, width) > MAXIMUM_ASPECT_RATIO * min(height, width):
        raise UnreadableImageError(
            path,
            f"{width}x{height} pixels: one side is more than "
            f"{MAXIMUM_ASPECT_RATIO} times the other",
        )


def resize_short_side(image: UInt8[np.ndarray, "H W *C"], size: int) -> UInt8[np.ndarray, "h w *C"]:
    """Resize to the shape of :func:`short_side_shape`, by antialiased bilinear sampling.

    Args:
        image: uint8 ``[H, W, 3]`` or ``[H, W]``.
        size: pixels of the shorter side, at least 1.

    Returns:
        uint8 of the same rank; the image itself where it has that size already.

    Raises:
        ValueError: ``size`` is not positive.
    """
    height, width = image.shape[:2]
    return resize(image, *short_side_shape(height, width, size))


def resize(
    pixels: UInt8[np.ndarray, "H W *C"] | Float[np.ndarray, "H W"], height: int, width: int
) -> UInt8[np.ndarray, "h w *C"] | Float[np.ndarray, "h w"]:
    """Resize by bilinear sampling, antialiased where it shrinks; the shape may be distorted.

    Args:
        pixels: RGB or grey levels, uint8, or a mask, float32.
        height: wanted height in pixels.
        width: wanted width in pixels.

    Returns:
        Pixels of the same type; ``pixels`` themselves where they have that size already.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def center_crop(
    image: Shaped[np.ndarray, "H W *C"], size: int
) -> Shaped[np.ndarray, "size size *C"]:
    """Cut the ``size`` × ``size`` square out of the middle.

    The corner is ``round((side - size) / 2)`` with halves to even, as in torchvision's
    ``CenterCrop``.

    Args:
        image: ``[H, W]`` or ``[H, W, C]`` of any type.
        size: pixels of a side.

    Returns:
        A view of shape ``[size, size]`` or ``[size, size, C]``.

    Raises:
        ValueError: the image is smaller than the square.
    """
    height, width = image.shape[:2]
    if not 0 < size <= min(height, width):
        raise ValueError(
            f"cannot crop {size}x{size} out of an image of {height}x{width}: resize it first"
        )
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def _read(
    source: str | os.PathLike[str] | io.BytesIO, path: str | os.PathLike[str], mode: str
) -> Image.Image:
    """Decode a file, called ``path`` in errors, into PIL mode ``mode``, upright."""
    try:
        image, orientation = _open(source)
        with image:
            pixels = _to_eight_bits(image)
            # Alpha is dropped either way, and PIL warns where a palette has some.
            pixels.info.pop("transparency", None)
            # To the mode that it has already, PIL converts by a copy.
            for wanted in ("RGB", mode):
                pixels = pixels if pixels.mode == mode else pixels.convert(wanted)
        if orientation in _ORIENTATIONS:
            pixels = pixels.transpose(_ORIENTATIONS[orientation])
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise UnreadableImageError(path, f"not an image in one of the formats {formats}") from error
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error
    # Decoders meet damaged files with nearly anything: struct.error, SyntaxError, zlib.error, ...
    except Exception as error:
        raise UnreadableImageError(path, f"{type(error).__name__}: {error}") from error
    return pixels


def _open(source: str | os.PathLike[str] | io.BytesIO) -> tuple[Image.Image, int]:
    """Open a file without decoding the pixels, and return its EXIF orientation too."""
    if not isinstance(source, io.BytesIO) and not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116
        # To open a pipe would wait for ever, a device may have no end.
        raise OSError("a directory, pipe or device, no regular file")
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(source, formats=FORMATS)
        try:
            # The method of the base class: that of PNG decodes all pixels, here under the lock.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        except Exception:
            # Damaged metadata is no reason to lose the pixels.
            orientation = 1
    if image.format == "TIFF":
        # PIL turns these upright itself when it decodes them.
        orientation = 1
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are more than the limit of {limit}")
    return image, orientation


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
