"""How much visitors may leave on the disk."""

import asyncio
import contextlib
from pathlib import Path

_FORM_BYTES = 64 * 1024
"""What a form adds to the file in it."""

_LEAST_BYTES = 8 * 1024
"""What a file and its folder take of the disk, however small it is."""

_AT_A_TIME = 8
_KEPT = 16


class UploadFolder:
    """The folder of uploaded files and of pictures on the page, kept within bounds.

    Attributes:
        path: absolute path without links.
        turns: who lets an upload through holds one; the others wait, their bytes still theirs.
    """

    def __init__(self, path: Path, largest: int) -> None:
        """Take what lies there already for a part of the page, which stays.

        Args:
            path: the folder, which need not be there yet.
            largest: bytes of the largest file that is taken.
        """
        self.path = path.resolve()
        self.turns = asyncio.Semaphore(_AT_A_TIME)
        self._largest = largest
        self._page = frozenset(self._files())

    def refusal(self, length: int | None) -> tuple[int, bytes] | None:
        """Say why an upload is not taken.

        Args:
            length: bytes of the request; ``None`` if it does not say.

        Returns:
            HTTP status and reason, or ``None`` if it is taken.
        """
        if length is None:
            return 411, b"An upload has to tell its length."
        if length > self._largest + _FORM_BYTES:
            return 413, b"One picture at a time, up to the size that the page tells."
        return None

    def make_room(self) -> None:
        """Remove the oldest files until those of all uploads at a time find room."""
        files = []
        for path in self._files():
            # Others may have been removed by gradio meanwhile.
            with contextlib.suppress(OSError):
                status = path.stat()
                size = max(status.st_size, _LEAST_BYTES)
                files.append((status.st_mtime_ns, size, path))
        total = sum(size for _, size, path in files if path not in self._page)
        for _, size, path in sorted(files):
            if total <= (_KEPT - _AT_A_TIME) * self._largest:
                return
            if path not in self._page:
                with contextlib.suppress(OSError):
                    path.unlink()
                    if path.parent != self.path:
                        path.parent.rmdir()
                total -= size

    def _files(self) -> list[Path]:
        return [path for path in self.path.rglob("*") if path.is_file()]
