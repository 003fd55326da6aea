"""The output folder: its layout, its settings, and files that are whole or absent."""

import contextlib
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from sempart_jax.data.folder import PRODUCT_FOLDERS, PRODUCT_MARKER
from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.segmentation.inputs import EXTENSIONS

MASKS = ("binary", "soft")
"""How values of mask files can be."""

MOST_OBJECTS = 254
"""Of an image: the values of 8 bits but for 0, background, and 255, border of objects in VOC."""

ALL_OBJECTS = "all"

_LONGEST_JPEG_SIDE = 65_500
_JPEG: Mapping[str, Any] = {"format": "JPEG", "quality": 92, "subsampling": 0}
# Twice as fast as the default level, and about a tenth larger.
_PNG: Mapping[str, Any] = {"format": "PNG", "compress_level": 3}


def parse_objects(text: str) -> int:
    """Read a number of objects, or ``all``; ValueError if it is neither."""
    if text == ALL_OBJECTS:
        return MOST_OBJECTS
    if not (text.isdecimal() and 1 <= int(text) <= MOST_OBJECTS):
        raise ValueError(f"--objects is a number from 1 to {MOST_OBJECTS}, or all, got {text!r}")
    return int(text)


def check_settings(
    outputs: Sequence[str],
    mask: str,
    threshold: float,
    objects: int = 1,
    largest_component: bool = False,
    least_confidence: float = 0.0,
) -> None:
    """Refuse what makes no sense, by a ValueError."""
    if not outputs or len(set(outputs)) != len(outputs) or not set(outputs) <= set(PRODUCT_FOLDERS):
        raise ValueError(
            f"--outputs are some of {', '.join(PRODUCT_FOLDERS)}, each once, "
            f"got {','.join(outputs)!r}"
        )
    if mask not in MASKS:
        raise ValueError(f"unknown mask {mask!r}: choose one of {', '.join(MASKS)}")
    if not 0 <= threshold < 1:
        raise ValueError(f"--threshold lies in [0, 1), got {threshold}")
    if not 0 <= least_confidence <= 1:
        raise ValueError(f"--least_confidence lies in [0, 1], got {least_confidence}")
    if not 1 <= objects <= MOST_OBJECTS:
        raise ValueError(f"--objects is a number from 1 to {MOST_OBJECTS}, got {objects}")
    if objects != 1 and mask != "binary":
        raise ValueError("--mask=soft is for one foreground: leave it out, or --objects")
    if objects != 1 and largest_component:
        raise ValueError("--largest_component is for one foreground: leave it out, or --objects")


def digest_of(settings: Mapping[str, Any]) -> str:
    """Hash settings, for records to say under which ones they were made."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def claim_folder(root: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the output folder, or make sure that it holds outputs of the same settings.

    With ``overwrite``, other settings replace those of the folder.

    Raises:
        ValueError: if the folder has been written with other settings, or holds files under the
            names of outputs that this program has not written.
        OSError: if the folder cannot be made or written.
    """
    marker = root / PRODUCT_MARKER
    if not marker.exists():
        for folder in (root / name for name in PRODUCT_FOLDERS.values()):
            if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
                raise ValueError(
                    f"{folder} is there already, and was not written by this program: choose "
                    "another --out"
                )
    elif not overwrite:
        try:
            before = json.loads(marker.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise ValueError(
                f"{marker} is damaged ({error}): give --overwrite to do the images again"
            ) from error
        for name in sorted(before.keys() | settings.keys()):
            if before.get(name) != settings.get(name):
                raise ValueError(
                    f"{root} was written with {name} = {_shown(before.get(name))}, now it is "
                    f"{_shown(settings.get(name))}: give the same settings, another --out, or "
                    "--overwrite to do its images again"
                )
        return
    write_atomically(marker, json.dumps(settings, indent=1) + "\n")


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    return ",".join(value) if isinstance(value, list) else str(value)


class OutputFolder:
    """Writes pictures under one folder, whole or not at all; a context manager, for any threads."""

    def __init__(self, root: Path, label: str) -> None:
        """Open a folder; the label tells this process from others that write to it now."""
        self._root = root.resolve()
        # What a killed process of the same label has left.
        for left in self._root.glob(f".partial-{label}-*"):
            shutil.rmtree(left, ignore_errors=True)
        self._partial = Path(tempfile.mkdtemp(prefix=f".partial-{label}-", dir=self._root))
        self._numbers = itertools.count()

    def __enter__(self) -> "OutputFolder":
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is not whole."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def save(self, kind: str, name: str, picture: Image.Image) -> str:
        """Write a picture, as JPEG if it is an overlay and JPEG can hold it, else as PNG.

        Args:
            kind: a key of :data:`sempart_jax.data.folder.PRODUCT_FOLDERS`.
            name: relative, without an extension.
            picture: the picture, its ICC profile among its ``info`` if it has one.

        Returns:
            Path of the file relative to the output folder, with ``/``.

        Raises:
            OSError: if it cannot be written; PermissionError too if a link leads out of the folder.
        """
        as_jpeg = kind == "overlay" and max(picture.size) <= _LONGEST_JPEG_SIDE
        png, jpg = EXTENSIONS
        relative = PurePosixPath(PRODUCT_FOLDERS[kind], name + (jpg if as_jpeg else png))
        target = self._root / relative
        if ".." in relative.parts or not target.parent.resolve().is_relative_to(self._root):
            raise PermissionError(
                f"{target} is outside of {self._root}: remove the link that leads there"
            )
        # Under a short name, in one file system with the final one.
        partial = self._partial / str(next(self._numbers))
        try:
            profile = picture.info.get("icc_profile")
            picture.save(partial, **(_JPEG if as_jpeg else _PNG), icc_profile=profile)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        return str(relative)
