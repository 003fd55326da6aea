"""Image files to arrays: the one place where image files are opened and decoded.

Everything that may be wrong with a file ends in :class:`UnreadableImageError`, so that a caller
has one thing to catch and a message that names the file.
"""

import contextlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from sempart_jax.data.masks import mask_levels
from sempart_jax.host.errors import ExpectedError
from sempart_jax.host.shown_names import printable
from sempart_jax.host.warn_once import warn_once

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

SWAPPING = (5, 6, 7, 8)
"""EXIF orientations that turn by a quarter: height becomes width."""

_SIXTEEN_BITS_AT_MOST = ("PNG", "PPM")
"""Formats whose pixels have no more bits where Pillow has them in 32."""

_LONGEST_PROFILE = 2**22
"""Bytes of an ICC profile that is used; a JPEG file can hold four times as much."""

_COLOUR_SPACES = {"L": b"GRAY", "CMYK": b"CMYK"}
"""What an ICC profile calls the pixels of a mode that becomes RGB by it."""

Result = TypeVar("Result")

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


class Photograph(NamedTuple):
    """A picture, and what a cut-out of it needs to look like it.

    Attributes:
        pixels: uint8 ``[H, W, 3]``, RGB.
        alpha: uint8 ``[H, W]``, 0 is transparent; None where all of the picture is opaque.
        profile: ICC profile of the colours; None where the file holds none of RGB.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"] | None = None
    profile: bytes | None = None


def open_image(source: str | os.PathLike[str] | bytes, name: str | None = None) -> Image.Image:
    """Decode an image file as it is meant to be seen.

    The EXIF orientation is applied. Grey, palette and CMYK images become RGB, those with an ICC
    profile of their own kind by that; the values of RGB stay, whatever their profile. An alpha
    channel is dropped, 16-bit images are scaled to 8 bits, and of several frames the first is
    taken.

    Args:
        source: a file in one of :data:`FORMATS`, whatever its extension, or the content of one.
        name: what to call it in an error; required for bytes, and by default the path.

    Returns:
        The image in RGB, its file closed; without metadata, so that nothing applies them again.

    Raises:
        UnreadableImageError: the file is missing, forbidden, truncated, no image, too large, or has
            pixels of 32 bits.
    """

    def convert(image: Image.Image) -> Image.Image:
        picture = _upright(_to_rgb(image), _orientation(image))
        picture.info.clear()
        return picture

    return _decode(source, name, convert)


def read_photograph(path: str | os.PathLike[str]) -> Photograph:
    """Read an image file as :func:`read_image` does, with its transparency and colour profile."""

    def read(image: Image.Image) -> Photograph:
        orientation, alpha = _orientation(image), _alpha(image)
        profile = _profile(image)
        return Photograph(
            np.array(_upright(_to_rgb(image), orientation)),
            None if alpha is None else np.array(_upright(alpha, orientation)),
            profile if profile is not None and _colour_space(profile) == b"RGB " else None,
        )

    return _decode(path, None, read)


def _decode(
    source: str | os.PathLike[str] | bytes, name: str | None, use: Callable[[Image.Image], Result]
) -> Result:
    """Load an image file, and turn what may be wrong with it into UnreadableImageError."""
    name = os.fsdecode(source) if name is None else name
    try:
        with _open(source) as image:
            image.load()
            return use(image)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            name,
            f"not an image in one of the formats {', '.join(FORMATS)}, or a TIFF of other bands "
            "than grey or RGB of 8 or 16 bits",
        ) from error
    except OSError as error:
        raise UnreadableImageError(name, error.strerror or str(error)) from error
    # Decoders meet damaged files with nearly anything: struct.error, SyntaxError, zlib.error, ...
    except Exception as error:
        raise UnreadableImageError(name, f"{type(error).__name__}: {error}") from error


def read_image(
    source: str | os.PathLike[str] | bytes, name: str | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file, see :func:`open_image`, as uint8 ``[H, W, 3]``, writable."""
    return np.array(open_image(source, name))


def read_grey(
    source: str | os.PathLike[str] | bytes, name: str | None = None, folder: str | None = None
) -> UInt8[np.ndarray, "H W"]:
    """Read a mask file: the one reader of ground truths, predictions and masks to learn from.

    See :func:`sempart_jax.data.masks.mask_levels` for the encodings that it takes. Of a mask that
    is not plain grey, a warning tells what was assumed, once for its folder.

    Args:
        source: a file in one of :data:`FORMATS`, whatever its extension, or the content of one.
        name: what to call it in messages; required for bytes, and by default the path.
        folder: what it lies in; by default, ``name`` without its last part.

    Returns:
        uint8 ``[H, W]``, writable; 0 is background, 255 is foreground.

    Raises:
        UnreadableImageError: it cannot be decoded, or may mean several things.
    """
    label = os.fsdecode(source) if name is None else name

    def read(image: Image.Image) -> tuple[Image.Image, str]:
        try:
            levels, assumed = mask_levels(image)
        except ValueError as error:
            raise UnreadableImageError(
                label, f"{error}: store a grey mask with 0 for background and 255 for foreground"
            ) from error
        return _upright(Image.fromarray(levels), _orientation(image)), assumed

    levels, assumed = _decode(source, label, read)
    if assumed:
        folder = str(PurePath(label).parent) if folder is None else folder
        warn_once(
            f"the mask {printable(label)} is not plain grey: {assumed}. Others in "
            f"{printable(folder)} that are alike are not named",
            (folder, assumed),
        )
    return np.array(levels)


def check_foreground(masks: Iterable[str | os.PathLike[str]]) -> None:
    """Make sure that there is something to find in a data set: one mask with foreground will do.

    What cannot be read is passed over: whoever uses it names it. A ValueError tells of masks that
    can be read, none of which has foreground.
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

    It is left as it is, but for being loaded.

    Raises:
        OSError: its file is truncated.
        ValueError: its pixels have no fixed range, as those of modes I and F, or no way to RGB.
    """
    image.load()
    return np.array(_upright(_to_rgb(image), _orientation(image)))


def count_pixels(source: str | os.PathLike[str] | bytes) -> int:
    """Read from a file's head how many pixels it will take.

    0 if that cannot be said, and whoever reads the file finds out why.
    """
    try:
        with _open(source) as image:
            return image.width * image.height
    # Decoders meet damaged files with nearly anything.
    except Exception:
        return 0


def exif_orientation(source: str | os.PathLike[str] | bytes, *, same_size: bool = False) -> int:
    """Read from a file's head its EXIF orientation, 1 to 8; 1 also if that cannot be said.

    With ``same_size``, only such orientations count as leave the size as it is.
    """
    try:
        with _open(source) as image:
            orientation = _orientation(image)
            if same_size and orientation in SWAPPING and image.width != image.height:
                return 1
    # Decoders meet damaged files with nearly anything; whoever reads the file finds out.
    except Exception:
        return 1
    return orientation if orientation in _ORIENTATIONS else 1


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Open a file without decoding the pixels."""
    if not isinstance(source, bytes) and not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116
        # To open a pipe would wait for ever, a device may have no end.
        raise OSError("a directory, pipe or device, no regular file")
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with _without_warnings():
        image = Image.open(opened, formats=FORMATS)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are more than the limit of {limit}")
    return image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that is still to be applied.

    It must be loaded: Pillow turns a TIFF upright while it does so, and forgets the orientation,
    and in a PNG the metadata may come after the pixels.
    """
    try:
        with _without_warnings():
            # The method of the base class: that of PNG decodes all pixels, here under the lock.
            return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Damaged metadata is no reason to lose the pixels.
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    if orientation not in _ORIENTATIONS:
        return image
    return image.transpose(_ORIENTATIONS[orientation])


def _profile(image: Image.Image) -> bytes | None:
    """Return the ICC profile of an image, if it is one by its head (ICC.1:2022, 7.2)."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 128 < len(profile) <= _LONGEST_PROFILE:
        return None
    return profile if profile[36:40] == b"acsp" else None


def _colour_space(profile: bytes) -> bytes:
    return profile[16:20]


def _alpha(image: Image.Image) -> Image.Image | None:
    """Return the opacity of an image, if some of it is not opaque."""
    if not image.has_transparency_data:
        return None
    if image.mode.startswith("I"):
        # One grey level of 16 bits, which Pillow does not compare.
        opaque = np.asarray(image) != image.info["transparency"]
        alpha = Image.fromarray(opaque.astype(np.uint8) * 255)
    else:
        alpha = (image if image.mode == "RGBA" else image.convert("RGBA")).getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _to_rgb(image: Image.Image) -> Image.Image:
    pixels = _to_eight_bits(image)
    if "transparency" in pixels.info:
        # Alpha is dropped either way, and PIL warns where a palette has some.
        pixels = pixels.copy()
        del pixels.info["transparency"]
    if (profile := _profile(image)) is not None:
        pixels = _to_srgb(pixels, profile)
    # To the mode that it has already, PIL converts by a copy.
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")


def _to_srgb(pixels: Image.Image, profile: bytes) -> Image.Image:
    """Convert grey levels or inks by a profile of their kind; leave others as they are."""
    plain = pixels.getchannel("L") if pixels.mode == "LA" else pixels
    if _COLOUR_SPACES.get(plain.mode) != _colour_space(profile):
        return pixels
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            plain, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        # A damaged profile is no reason to lose the pixels.
        return pixels
    return pixels if converted is None else converted


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where PIL would clip it at 255; leave other modes alone."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range: store 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and image.format not in _SIXTEEN_BITS_AT_MOST:
        raise ValueError(
            "integer pixels of 32 bits have no fixed range: store 8 or 16 bits, with Pillow by "
            "image.convert('L') where they lie in 0..255"
        )
    # round(v 255 / 65535)
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
