"""Image folders: which files of a folder are images, which mask belongs to which image.

Nothing here opens an image: a file that cannot be decoded is found by whoever reads it.
"""

import filecmp
import functools
import os
import types
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from absl import logging

from sempart_jax.host.shown_names import printable, shorten
from sempart_jax.host.warn_once import warn_once

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""What an image file's name ends in, in upper or lower case: of all ``data.images.FORMATS``."""

PRODUCT_FOLDERS: Mapping[str, str] = types.MappingProxyType(
    {"mask": "masks", "overlay": "overlays", "cutout": "cutouts"}
)
"""Folder of each kind of picture that the command segment writes."""

PRODUCT_MARKER = "segmentation.json"
"""File that holds segment's settings, by which an output folder of it is known."""

PRODUCT_RECORDS = "masks.*jsonl"
"""Pattern of the names of segment's records."""

OWN_MASK = "is its own mask, byte by byte"
"""What is wrong with an image whose mask is the same file, or a copy of it."""

_IMAGES_BESIDE_MASKS = (
    ("DUTS-TR/DUTS-TR-Image", "."),
    ("DUTS-TR-Image", "."),
    ("DUTS-TE-Image", "."),
    ("DUT-OMRON-image", "."),
    # "images" alone is anybody's name.
    ("images", "ground_truth_mask"),
)
"""Image folder of a benchmark's own folder, and what else must be there to know it by."""


def find_images(root: str | os.PathLike[str], *, products: bool = False) -> list[Path]:
    """Find the image files of a folder and of all folders under it.

    Hidden files and folders (a leading dot) are skipped. Links to folders are followed, each
    folder once, so that a link to a folder above it does no harm. Where ``root`` is a benchmark's
    folder as its authors lay it out (DUTS, DUTS-TR, DUTS-TE, DUT-OMRON, ECSSD), only the images are
    taken, of DUTS the training images: masks lie beside them and are no images to train on. Nor
    are masks, overlays and cut-outs that the command segment has written into folders under
    ``root``: a warning tells how many. Another one counts the other files by what their names end
    in, and names folders that may not be listed.

    Args:
        root: the folder.
        products: whether to take what segment has written, too.

    Returns:
        Paths that start with ``root``, sorted by their POSIX path relative to it.

    Raises:
        FileNotFoundError: there is no ``root``, or it holds no image.
        ValueError: ``root`` is a file.
        OSError: ``root`` itself may not be listed.
    """
    folder = image_folder(root)
    files = _visible_files(folder)
    images = [path for path in files if path.suffix.lower() in EXTENSIONS]
    _tell_others(folder, (path.name for path in files if path.suffix.lower() not in EXTENSIONS))
    if not products:
        found, images = images, without_products(images, folder)
        if len(images) < len(found):
            logging.warning(
                "left out %d pictures under %s, which segment has written",
                len(found) - len(images),
                printable(folder),
            )
    if not images:
        raise FileNotFoundError(
            f"no image under {folder}: put files there whose names end in {', '.join(EXTENSIONS)}"
        )
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def without_products(paths: Iterable[Path], root: Path | None = None) -> list[Path]:
    """Leave out what a call of segment has written beside the photographs that it was made of.

    ``root`` is a folder that was asked for; its own files are kept, whatever it is.
    """
    end = None if root is None else root.resolve()

    @functools.cache
    def is_product_folder(parent: Path) -> bool:
        folder = parent.resolve()
        for inner in (folder, *folder.parents):
            if inner == end:
                return False
            named = inner.name in PRODUCT_FOLDERS.values()
            if named and (inner.parent / PRODUCT_MARKER).is_file():
                return True
        return False

    return [path for path in paths if not is_product_folder(path.parent)]


def image_folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder that the images of a folder lie in, see :func:`find_images`."""
    folder = Path(root)
    if not folder.exists():
        raise FileNotFoundError(f"no folder {folder}: check the path, seen from {Path.cwd()}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give the folder that holds the images")
    for inside, mark in _IMAGES_BESIDE_MASKS:
        if (folder / inside).is_dir() and (folder / mark).is_dir():
            return folder / inside
    return folder


def find_pairs(
    images: str | os.PathLike[str], masks: str | os.PathLike[str]
) -> list[tuple[Path, Path]]:
    """Pair each image of one folder with the mask of the same name in another.

    Names are compared without their extension and relative to their folder. Masks that belong
    to no image are left out.

    Raises:
        FileNotFoundError: a folder is missing or empty, or some images have no mask or several.
    """
    pairs, left_out = match_pairs(images, masks)
    if left_out:
        problems = shorten([f"{path.name} {reason}" for path, reason in left_out.items()])
        raise FileNotFoundError(
            f"{len(left_out)} of {len(pairs) + len(left_out)} images in {images} have not exactly "
            f"one mask in {masks}: {problems}. A mask has the name of its image, with one of the "
            f"extensions {', '.join(EXTENSIONS)}"
        )
    return pairs


def match_pairs(
    images: str | os.PathLike[str], masks: str | os.PathLike[str]
) -> tuple[list[tuple[Path, Path]], dict[Path, str]]:
    """Pair images with masks as :func:`find_pairs` does, but leave out what does not fit.

    The archives of DUTS and DUT-OMRON from before 2018 hold some images without a mask, and some
    with two, of which their authors took back one.

    Returns:
        ``(image, mask)``, and of each image that is left out the reason, in words.
    """
    masks_of = masks_by_name(masks)
    pairs: list[tuple[Path, Path]] = []
    left_out: dict[Path, str] = {}
    for path in find_images(images):
        candidates = masks_of.get(pair_name(path, images), [])
        if problem := pair_problem(path, candidates):
            left_out[path] = problem
        else:
            pairs.append((path, candidates[0]))
    return pairs, left_out


def masks_by_name(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Find the masks of a folder by their :func:`pair_name`; several differ in extensions."""
    masks: dict[str, list[Path]] = {}
    for mask in find_images(folder, products=True):
        masks.setdefault(pair_name(mask, folder), []).append(mask)
    return masks


def pair_name(path: Path, root: str | os.PathLike[str]) -> str:
    """Return the name by which an image and its mask are paired, each relative to its folder.

    The path with ``/``, without its extension, in the spelling of :func:`comparable`.
    """
    return comparable(path.relative_to(root).with_suffix("").as_posix())


def comparable(name: str) -> str:
    """Return the spelling in which names are compared: NFC, for macOS may write ``é`` in two."""
    return unicodedata.normalize("NFC", name)


def pair_problem(image: Path, masks: Sequence[Path]) -> str:
    """Say why an image and the masks of its name are no pair; empty where they are one."""
    if len(masks) != 1:
        return mask_problem([mask.name for mask in masks])
    try:
        # Of files of different size, nothing is read.
        same = image.stat().st_size > 0 and filecmp.cmp(image, masks[0], shallow=False)
    except OSError:
        same = False
    # What is empty or cannot be read is told by whoever reads it.
    return OWN_MASK if same else ""


def mask_problem(candidates: Sequence[str]) -> str:
    """Say what is wrong with an image whose masks, by their names, are not exactly one."""
    return f"has several masks, {' and '.join(candidates)}" if candidates else "has no mask"


def file_stamp(path: Path) -> str:
    """Return what changes when a file is replaced: its size and the time of its last change."""
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def _tell_others(folder: Path, names: Iterable[str]) -> None:
    """Warn of files that are no images by their names, but for those of segment."""
    products = (PRODUCT_MARKER, PRODUCT_RECORDS)
    others = [name for name in names if not any(fnmatch(name, own) for own in products)]
    counts = Counter(os.path.splitext(name)[1].lower() for name in others)  # noqa: PTH122
    if counts:
        listed = [f"{n} {suffix or 'without one'}" for suffix, n in counts.most_common()]
        warn_once(
            f"left out {len(others)} files under {printable(folder)}, which are no images by their "
            f"suffix: {shorten(listed)}"
        )


def _visible_files(folder: Path) -> list[Path]:
    """List the files under ``folder`` whose path below it has no hidden part."""
    closed: dict[str, str] = {}

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        closed[error.filename] = error.strerror or str(error)

    files: list[Path] = []
    visited = {folder.resolve()}
    for parent, folders, names in os.walk(folder, onerror=note, followlinks=True):
        here = Path(parent)
        # In place, so that the walk goes into these only; of a folder and a link to it beside it,
        # the folder comes first and gives the name, whatever the file system's order is.
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            # Of a folder that may be listed and not entered, no link is known to be one.
            key=lambda name: (os.path.islink(here / name), name),  # noqa: PTH114
        )
        for name in list(folders):
            target = (here / name).resolve()
            if target in visited:
                folders.remove(name)
            visited.add(target)
        files += [here / name for name in names if not name.startswith(".")]
    if closed:
        logging.warning(
            "left out %d folders that cannot be listed: %s (%s)",
            len(closed),
            shorten(list(closed)),
            next(iter(closed.values())),
        )
    return files
