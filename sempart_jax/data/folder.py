"""Image folders: which files of a folder are images, which mask belongs to which image.

Nothing here opens an image: a file that cannot be decoded is found by whoever reads it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
"""What an image file's name ends in, in upper or lower case."""

BENCHMARKS = {
    "duts_tr": ("DUTS/DUTS-TR/DUTS-TR-Image", "DUTS/DUTS-TR/DUTS-TR-Mask"),
    "duts_te": ("DUTS/DUTS-TE/DUTS-TE-Image", "DUTS/DUTS-TE/DUTS-TE-Mask"),
    "ecssd": ("ECSSD/images", "ECSSD/ground_truth_mask"),
}
"""Image and mask folder of each benchmark under the data root, as its authors lay it out."""

_SHOWN = 5


def find_images(root: str | os.PathLike[str]) -> list[Path]:
    """Find the image files of a folder and of all folders under it.

    Hidden files and folders (a leading dot) are skipped. Links to folders are followed, each
    folder once, so that a link to a folder above it does no harm. Where ``root`` is the DUTS
    folder of its authors or its DUTS-TR, only the training images are taken: their masks lie
    beside them and are no images to train on.

    Args:
        root: the folder.

    Returns:
        Paths that start with ``root``, sorted by their POSIX path relative to it.

    Raises:
        FileNotFoundError: there is no ``root``, or it holds no image.
        ValueError: ``root`` is a file.
        OSError: a folder may not be listed.
    """
    folder = Path(root)
    if not folder.exists():
        raise FileNotFoundError(f"no folder {folder}: check the path, seen from {Path.cwd()}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give the folder that holds the images")
    for training in ("DUTS-TR/DUTS-TR-Image", "DUTS-TR-Image"):
        if (folder / training).is_dir():
            folder = folder / training
            break
    images = [path for path in _visible_files(folder) if path.suffix.lower() in EXTENSIONS]
    if not images:
        raise FileNotFoundError(
            f"no image under {folder}: put files there whose names end in {', '.join(EXTENSIONS)}"
        )
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def find_pairs(
    images: str | os.PathLike[str], masks: str | os.PathLike[str]
) -> list[tuple[Path, Path]]:
    """Pair each image of one folder with the mask of the same name in another.

    Names are compared without their extension and relative to their folder. Masks that belong
    to no image are left out.

    Args:
        images: folder of images.
        masks: folder of masks.

    Returns:
        ``(image, mask)`` in the order of :func:`find_images`.

    Raises:
        FileNotFoundError: a folder is missing or empty, or some images have no mask.
        ValueError: two masks have the same name up to the extension.
    """
    mask_of: dict[str, Path] = {}
    for mask in find_images(masks):
        other = mask_of.setdefault(_stem(mask, masks), mask)
        if other != mask:
            raise ValueError(f"two masks for one image: {other} and {mask}: remove one of them")
    found = find_images(images)
    lacking = [path.name for path in found if _stem(path, images) not in mask_of]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise FileNotFoundError(
            f"{len(lacking)} of {len(found)} images in {images} have no mask in {masks}: "
            f"{', '.join(lacking[:_SHOWN])}{more}. A mask has the name of its image, "
            f"with one of the extensions {', '.join(EXTENSIONS)}"
        )
    return [(path, mask_of[_stem(path, images)]) for path in found]


def existing_files(paths: Mapping[str, Path], folder: Path, advice: str) -> dict[str, Path]:
    """Keep the files of a list that are on the disk.

    A part of them is no error here: whoever scores it says how many of how many it is.

    Args:
        paths: path of each file by its id.
        folder: where they should lie, for the message.
        advice: how to get them there, for the message.

    Returns:
        The files that are there, by id, in the order given.

    Raises:
        FileNotFoundError: none of them is there.
    """
    found = {file_id: path for file_id, path in paths.items() if path.is_file()}
    if not found:
        raise FileNotFoundError(f"none of the {len(paths)} listed images is in {folder}: {advice}")
    return found


def benchmark_folders(name: str, data_root: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return the image folder and the mask folder of a benchmark.

    Args:
        name: a key of :data:`BENCHMARKS`.
        data_root: the folder under which the benchmarks lie as their authors lay them out.

    Returns:
        ``(image folder, mask folder)``.

    Raises:
        ValueError: no benchmark has this name.
        FileNotFoundError: one of the two folders is missing.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    images, masks = (Path(data_root) / folder for folder in BENCHMARKS[name])
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"benchmark {name}: no folder {folder}: unpack the authors' archive so that it "
                f"lies there, or give another data root than {data_root}"
            )
    return images, masks


def _stem(path: Path, root: str | os.PathLike[str]) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _visible_files(folder: Path) -> list[Path]:
    """List the files under ``folder`` whose path below it has no hidden part."""

    def fail(error: OSError) -> None:
        raise error

    files: list[Path] = []
    visited = {folder.resolve()}
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = Path(parent)
        # In place, so that the walk goes into these only; of a folder and a link to it beside it,
        # the folder comes first and gives the name, whatever the file system's order is.
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            key=lambda name: ((here / name).is_symlink(), name),
        )
        for name in list(folders):
            target = (here / name).resolve()
            if target in visited:
                folders.remove(name)
            visited.add(target)
        files += [here / name for name in names if not name.startswith(".")]
    return files
