"""A temporary folder that goes with the process that made it, however that process ends."""

import contextlib
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TextIO

if sys.platform != "win32":
    import fcntl

_PREFIX = "sempart_jax-"
_OWNED = "owned"
"""File that the owner holds a lock on, which the system takes away from a process that ends."""


class ScratchFolder:
    """An empty folder among the system's temporary files (``TMPDIR``), for this user alone.

    It is removed when it is closed, no longer referred to, or the program ends. A process that is
    killed removes nothing: the next one that makes such a folder does it (not on Windows).

    Attributes:
        path: the folder.
    """

    def __init__(self, needed: int) -> None:
        """Make the folder, and remove those whose owners were killed.

        Args:
            needed: bytes that are going to lie there.

        Raises:
            ValueError: the disk has less.
        """
        parent = Path(tempfile.gettempdir())
        _remove_abandoned(parent)
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise ValueError(
                f"{needed / 1e9:.1f} GB are needed in {parent}, and {free / 1e9:.1f} GB are free "
                "there: ask for less, or set TMPDIR to a folder with more"
            )
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        owned = (self.path / _OWNED).open("w")
        _try_lock(owned)
        self._finalizer = weakref.finalize(self, _remove, self.path, owned)

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        self._finalizer()


def _remove(path: Path, owned: TextIO) -> None:
    shutil.rmtree(path, ignore_errors=True)
    owned.close()


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        # Other users' folders cannot be looked into, and others may clean up at the same time.
        with contextlib.suppress(OSError), (path / _OWNED).open("r+") as owned:
            if _try_lock(owned):
                shutil.rmtree(path, ignore_errors=True)


def _try_lock(file: TextIO) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
