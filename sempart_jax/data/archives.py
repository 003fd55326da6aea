"""Where the files of DUTS, DUT-OMRON and ECSSD come from: folders, archives, or their authors.

The first that is there is taken: folders unpacked from the authors' archives, the archives
themselves, a download. An archive is read in place. Nothing is unpacked, so no member's name ever
becomes a path on the disk, an interrupted run leaves nothing half written, and no archive can fill
the disk.
"""

import http.client
import shutil
import stat
import urllib.request
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.folder import EXTENSIONS, comparable, find_images
from sempart_jax.data.images import UnreadableImageError

MAXIMUM_BYTES = 64 * 2**20
"""A larger member of an archive is no photograph of a benchmark, whose files have below 1 MB."""

_JUNK = ("__MACOSX",)
_PATIENCE = 15
"""Seconds until a server counts as out of reach."""

_SALIENCY = "http://saliencydetection.net"
_ECSSD = "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/data/ECSSD"
ARCHIVES = {
    "duts_tr": (f"{_SALIENCY}/duts/download/DUTS-TR.zip",) * 2,
    "duts_te": (f"{_SALIENCY}/duts/download/DUTS-TE.zip",) * 2,
    "dut_omron": (
        f"{_SALIENCY}/dut-omron/download/DUT-OMRON-image.zip",
        f"{_SALIENCY}/dut-omron/download/DUT-OMRON-gt-pixelwise.zip.zip",
    ),
    "ecssd": (f"{_ECSSD}/images.zip", f"{_ECSSD}/ground_truth_mask.zip"),
}
"""Address of the archive of the images and of that of the masks, which may be one, of each
benchmark. In them, the folders have the names that ``BENCHMARKS`` gives."""


class StoredFile(NamedTuple):
    """One image file of a data set.

    Attributes:
        label: what to call it in messages: its path, inside an archive after the archive's.
        read: returns its bytes, or raises UnreadableImageError or OSError, which name it.
    """

    label: str
    read: Callable[[], bytes]

    @property
    def stem(self) -> str:
        """Name without folders and extension, which an image and its mask share."""
        return comparable(PurePosixPath(self.label).stem)


class BenchmarkFiles(NamedTuple):
    """The image files and the mask files of a benchmark, not yet paired."""

    images: list[StoredFile]
    masks: list[StoredFile]


def find_files(
    name: str, folder: Path, download: Callable[[str], Path] | None = None
) -> BenchmarkFiles:
    """Find the files of a benchmark, a key of :data:`ARCHIVES`.

    Archives and unpacked folders may lie in ``folder`` itself or in the benchmark's own folder
    (DUTS, DUT-OMRON, ECSSD) in it. ``download`` gets an address and returns the file, or raises
    OSError; None downloads nothing.

    Raises:
        FileNotFoundError: the files are nowhere; says which to put where.
        ValueError: an archive is truncated or no zip archive.
    """
    parts = [Path(part) for part in (BENCHMARKS[name].images, BENCHMARKS[name].masks)]
    home = parts[0].parts[0]
    places = (folder / home, folder)
    unpacked = [[place / part.relative_to(home) for part in parts] for place in places]
    for images, masks in unpacked:
        if images.is_dir() and masks.is_dir():
            return BenchmarkFiles(folder_files(images), folder_files(masks))
    paths: dict[str, Path] = {}
    absent: dict[str, str] = {}
    for url in dict.fromkeys(ARCHIVES[name]):
        candidates = [place / file_name(url) for place in places]
        there = next((path for path in candidates if path.is_file()), None)
        if there is not None:
            paths[url] = there
        elif download is None:
            absent[url] = "downloading is switched off"
        else:
            try:
                paths[url] = download(url)
            except OSError as error:
                absent[url] = str(error)
    if absent:
        images, masks = unpacked[0]
        listed = ", ".join(f"{url} ({reason})" for url, reason in absent.items())
        raise FileNotFoundError(
            f"{name}: neither the folders {images} and {masks} are there, nor the archives in "
            f"{places[0]} or {places[1]}. Put there what cannot be downloaded: {listed}"
        )
    # Where one archive holds both, only their folders tell images from masks.
    both = len(paths) == 1
    return BenchmarkFiles(
        *(
            archive_files(paths[url], part.name, required=both)
            for url, part in zip(ARCHIVES[name], parts, strict=True)
        )
    )


def file_name(url: str) -> str:
    """Return the last part of an address."""
    return url.rsplit("/", 1)[-1]


def download_archive(folder: Path, url: str) -> Path:
    """Download a zip archive into a folder, unless that was done before.

    Raises:
        OSError: the server is out of reach, does not have the file, broke off, or sent something
            else; nothing of that is kept.
    """
    path = folder / file_name(url)
    if path.is_file():
        return path
    started = path.with_name(f".{path.name}")
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:
            folder.mkdir(parents=True, exist_ok=True)
            size = int(answer.headers.get("Content-Length", 0)) or None
            with (
                started.open("wb") as file,
                tqdm.wrapattr(file, "write", total=size, desc=path.name) as counted,
            ):
                shutil.copyfileobj(answer, counted)
        if not zipfile.is_zipfile(started):
            raise OSError("what came is no complete zip archive; another run downloads it anew")
        return started.rename(path)
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        started.unlink(missing_ok=True)


def folder_files(folder: Path) -> list[StoredFile]:
    """List the image files of an unpacked folder, sorted by their path."""
    return [StoredFile(str(path), path.read_bytes) for path in find_images(folder)]


def archive_files(archive: Path, folder: str, *, required: bool = False) -> list[StoredFile]:
    """List the image files of a zip archive, sorted by their path in it.

    Archives with and without folders above ``folder``, or without any folder at all, are the same;
    so is a backslash between folders, as some programs write it. Hidden files, other files than
    images, links and what macOS adds are passed over.

    Args:
        archive: the zip file.
        folder: name of the folder of the wanted files; where no file lies in a folder of that name,
            all files count.
        required: whether only files in a folder of that name count.

    Raises:
        FileNotFoundError: it holds no image, or none in the folder that is required.
        ValueError: it is truncated or no zip archive.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{archive} is no complete zip archive ({error}): put a whole one there, or remove it "
            "to have it downloaded"
        ) from error
    for member in opened.infolist():
        # What zipfile does by itself on Windows.
        member.filename = member.filename.replace("\\", "/")
    members = [member for member in opened.infolist() if _is_image(member)]
    inside = [member for member in members if folder in PurePosixPath(member.filename).parent.parts]
    if required and members and not inside:
        kind = "masks" if "mask" in folder.lower() else "images"
        raise FileNotFoundError(
            f"no {kind} in {archive}: none of its {len(members)} pictures lies in a folder "
            f"{folder}; put the authors' archive there"
        )
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


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    label = f"{archive.filename}/{member.filename}"
    if member.file_size > MAXIMUM_BYTES:
        raise UnreadableImageError(
            label, f"{member.file_size} bytes are more than the limit of {MAXIMUM_BYTES}"
        )
    try:
        with archive.open(member) as file:
            # No more than it claims to have, whatever comes out of the decompressor.
            return file.read(member.file_size)
    # An encrypted member, or what decompressors meet damaged bytes with: zlib.error, EOFError, ...
    except Exception as error:
        raise UnreadableImageError(label, f"{type(error).__name__}: {error}") from error
