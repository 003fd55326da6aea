"""Image files where a data set keeps them: in an unpacked folder or, unextracted, in a zip archive.

An archive is read in place. Nothing is unpacked, so no member's name ever becomes a path on the
disk, an interrupted run leaves nothing half written, and no archive can fill the disk.
"""

import dataclasses
import stat
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from sempart_jax.data.folder import EXTENSIONS, find_images
from sempart_jax.data.images import UnreadableImageError

MAXIMUM_BYTES = 64 * 2**20
"""A larger member of an archive is no photograph of a benchmark, whose files have below 1 MB."""

_ENCRYPTED = 0x1
_JUNK = ("__MACOSX",)


class DamagedArchiveError(ValueError):
    """A file that should be a zip archive and cannot be opened as one."""

    def __init__(self, path: Path, reason: str):
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return (
            f"{self.path} is no complete zip archive ({self.reason}): put a whole one there, or "
            "remove it to have it downloaded"
        )


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """One image file of a data set.

    Attributes:
        label: what to call it in messages: its path, inside an archive after the archive's.
        read: returns its bytes, or raises UnreadableImageError that names ``label``.
    """

    label: str
    read: Callable[[], bytes]

    @property
    def stem(self) -> str:
        """Name without folders and extension, which an image and its mask share."""
        return PurePosixPath(self.label).stem


def folder_files(folder: Path) -> list[StoredFile]:
    """List the image files of an unpacked folder.

    Args:
        folder: see ``sempart_jax.data.folder.find_images``.

    Returns:
        The files, sorted by their path.

    Raises:
        FileNotFoundError: the folder is missing or holds no image.
    """
    return [StoredFile(str(path), partial(_read_file, path)) for path in find_images(folder)]


def archive_files(archive: Path, folder: str) -> list[StoredFile]:
    """List the image files of a zip archive.

    Archives with and without folders above ``folder``, or without any folder at all, are the same.
    Hidden files, other files than images, links and what macOS adds are passed over.

    Args:
        archive: the zip file.
        folder: name of the folder of the wanted files; where no file lies in a folder of that name,
            all files count.

    Returns:
        The files, sorted by their path in the archive.

    Raises:
        FileNotFoundError: there is no such file, or it holds no image.
        DamagedArchiveError: it is truncated or no zip archive.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no archive {archive}") from error
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DamagedArchiveError(archive, str(error)) from error
    members = [member for member in opened.infolist() if _is_image(member)]
    inside = [member for member in members if folder in PurePosixPath(member.filename).parent.parts]
    if not members:
        raise FileNotFoundError(
            f"no image in {archive}: this is not the archive that its name says; put the authors' "
            "there"
        )
    return [
        StoredFile(f"{archive}/{member.filename}", partial(_read_member, opened, member))
        for member in sorted(inside or members, key=lambda member: member.filename)
    ]


def _is_image(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    return (
        not member.is_dir()
        and path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") or part in _JUNK for part in path.parts)
        # The upper half holds the Unix mode, zero where another system made the archive.
        and not stat.S_ISLNK(member.external_attr >> 16)
    )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    label = f"{archive.filename}/{member.filename}"
    if member.flag_bits & _ENCRYPTED:
        raise UnreadableImageError(label, "it is encrypted")
    if member.file_size > MAXIMUM_BYTES:
        raise UnreadableImageError(
            label, f"{member.file_size} bytes are more than the limit of {MAXIMUM_BYTES}"
        )
    try:
        with archive.open(member) as file:
            # No more than it claims to have, whatever comes out of the decompressor.
            return file.read(member.file_size)
    # Decompressors meet damaged bytes with errors of their own: zlib.error, EOFError, ...
    except Exception as error:
        raise UnreadableImageError(label, f"{type(error).__name__}: {error}") from error
