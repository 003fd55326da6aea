"""What the command segment has written: how its folders are called, and which pictures are in one.

They are found again beside the photographs that they were made of, and are none.
"""

import functools
import types
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDERS: Mapping[str, str] = types.MappingProxyType(
    {"mask": "masks", "overlay": "overlays", "cutout": "cutouts"}
)
"""Folder of each kind of output."""

MARKER = "segmentation.json"
"""File that holds the settings, by which an output folder is known."""


def without_products(paths: Iterable[Path], root: Path | None = None) -> list[Path]:
    """Leave out what a call of segment has written.

    Args:
        paths: files.
        root: a folder that was asked for; its own files are kept, whatever it is.

    Returns:
        The other files, in the order given.
    """
    end = None if root is None else root.resolve()

    @functools.cache
    def is_product_folder(parent: Path) -> bool:
        folder = parent.resolve()
        for inner in (folder, *folder.parents):
            if inner == end:
                return False
            if inner.name in FOLDERS.values() and (inner.parent / MARKER).is_file():
                return True
        return False

    return [path for path in paths if not is_product_folder(path.parent)]
