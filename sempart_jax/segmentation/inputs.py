"""Which images a command line means, what their output files are called, and whose shard they are.

Names follow from the set of inputs alone, not from their order among processes or the time of the
call, so that the processes of a sharded collection agree on them without talking to each other.
"""

import dataclasses
import glob
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from sempart_jax.data.folder import comparable, find_images, without_products

EXTENSIONS = (".png", ".jpg")
"""What names of outputs end in."""

_LONGEST_NAME = 200
"""Bytes of a file name before its mark and extension; file systems allow 255 in all."""
_MARK_DIGITS = (8, 64)


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image's absolute path, and the name of its outputs: relative, without an extension."""

    path: Path
    name: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """Process ``index``, from 0, of ``count`` that share a collection."""

    index: int = 0
    count: int = 1

    @property
    def record_name(self) -> str:
        """Name of the file of this process's records."""
        return "masks.jsonl" if self.count == 1 else f"masks.{self.label}.jsonl"

    @property
    def label(self) -> str:
        """The shard as a part of file names."""
        return f"{self.index}-of-{self.count}"

    def holds(self, file: ImageFile) -> bool:
        """Tell whether an image is this process's.

        Shards are drawn by the path, not dealt out in turn: files that come or go while the
        processes start put no other file into two shards, or none.
        """
        return int(_path_digest(file.path)[:15], 16) % self.count == self.index


def parse_shard(text: str) -> Shard:
    """Read ``i/n``; ValueError if it is something else."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"--shard is i/n with i from 0 to n-1, 0/4 to 3/4 for four processes, got {text!r}"
        )
    return Shard(int(index), int(count))


def find_inputs(arguments: Sequence[str]) -> dict[Path, PurePosixPath]:
    """Find the images that arguments name.

    An argument is a file, whatever its extension; a folder, of which ``find_images`` takes all
    images below; or a pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth), which stands for
    the files and folders that match. What exists under the very name is no pattern, nor is a folder
    that exists under the first part of one. What an earlier call has written is left out, wherever
    it lies.

    Returns:
        Absolute path of each image, once, to the wanted name of its outputs: the path below the
        argument's folder (below the part without wildcards for a pattern; the file's name for a
        file) without its extension.

    Raises:
        FileNotFoundError: if an argument names nothing, or there is no image at all.
        OSError: if a folder that is named may not be listed.
    """
    found: dict[Path, PurePosixPath] = {}
    for argument in arguments:
        if os.path.lexists(argument):
            pairs = _files_of(Path(argument), PurePosixPath())
        else:
            pairs = [
                pair for match, below in _matches(argument) for pair in _files_of(match, below)
            ]
        kept = set(without_products(path for path, _ in pairs))
        for path, relative in pairs:
            if path in kept:
                found.setdefault(path, PurePosixPath(os.path.splitext(relative)[0]))  # noqa: PTH122
    if not found:
        raise FileNotFoundError(
            "no image to segment: name images, folders or patterns; what this program has written "
            "itself is left out"
        )
    return found


def _files_of(path: Path, below: PurePosixPath) -> list[tuple[Path, PurePosixPath]]:
    """List absolute paths of a file or folder, and names under ``below``."""
    if path.is_dir():
        root = path.resolve()
        files = [image.relative_to(path) for image in find_images(path, products=True)]
        return [(root / file, below / PurePosixPath(file)) for file in files]
    # The link itself, but where it really lies: so that a file has one path.
    return [(path.parent.resolve() / path.name, below / path.name)]


def _matches(pattern: str) -> list[tuple[Path, PurePosixPath]]:
    """Expand a pattern to paths, and the folders under which their names stand."""
    fixed, parts = Path(), list(Path(pattern).parts)
    while parts and os.path.lexists(fixed / parts[0]):
        fixed /= parts.pop(0)
    # One that ends in a slash stands for folders alone.
    end = [""] if pattern.endswith(os.sep) else []
    wild = os.path.join(glob.escape(os.fspath(fixed)), *parts, *end)  # noqa: PTH118
    matches = sorted(glob.glob(wild, recursive=True))  # noqa: PTH207 - absolute patterns too
    if not matches:
        raise FileNotFoundError(
            f"no file or folder {pattern!r}: check the path, seen from {Path.cwd()}"
        )
    pairs = []
    for match in map(Path, matches):
        relative = os.path.relpath(match, fixed)
        parts = [part for part in PurePosixPath(relative).parts if part != ".."]
        pairs.append((match, PurePosixPath(*(parts if match.is_dir() else parts[:-1]))))
    return pairs


def name_outputs(
    wanted: Mapping[Path, PurePosixPath], recorded: Mapping[Path, str] | None = None
) -> list[ImageFile]:
    """Give each image a name that no other one has, on file systems that ignore case too.

    Images that want one name, ``a.jpg`` and ``a.png`` say, all get a mark that follows from their
    path, ``a~1f3a9c04``; and so does one whose name is another one's folder, or is too long. Names
    that images have had in earlier calls, ``recorded``, are kept.
    """
    kept = dict(recorded or {})
    holders = {_key(name): path for path, name in kept.items()}
    folders = {_key(str(parent)) for name in wanted.values() for parent in name.parents}

    def unusable(path: Path, name: str) -> bool:
        return holders.get(_key(name), path) != path or any(
            _key(name + extension) in folders for extension in EXTENSIONS
        )

    names = {path: _marked(path, name, 0) for path, name in wanted.items()}
    for digits in _MARK_DIGITS:
        count = Counter(_key(name) for name in names.values())
        for path, name in list(names.items()):
            if count[_key(name)] > 1 or unusable(path, name):
                names[path] = _marked(path, wanted[path], digits)
    return [ImageFile(path, kept.get(path, name)) for path, name in names.items()]


def _key(name: str) -> str:
    return comparable(name).casefold()


def _marked(path: Path, wanted: PurePosixPath, digits: int) -> str:
    stem = wanted.name
    if len(os.fsencode(stem)) > _LONGEST_NAME - digits:
        stem = _shortened(stem, _LONGEST_NAME - digits)
        digits = digits or _MARK_DIGITS[0]
    mark = f"~{_path_digest(path)[:digits]}" if digits else ""
    return str(wanted.with_name(stem + mark))


def _shortened(name: str, size: int) -> str:
    """Cut a name to so many bytes, before a character and not before its accents."""
    end = len(name)
    while len(os.fsencode(name[:end])) > size or unicodedata.combining(name[end : end + 1] or " "):
        end -= 1
    return name[:end]


def _path_digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()
