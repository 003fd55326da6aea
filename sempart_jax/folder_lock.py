"""One folder, one process that writes to it: a second one is refused."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from sempart_jax.atomic_write import write_atomically
from sempart_jax.write_errors import writing


class FolderInUseError(ValueError):
    """Another process writes to this folder."""


@contextlib.contextmanager
def locked(folder: Path, flag: str, *, part: str = "") -> Iterator[None]:
    """Hold a folder; the system lets go of it when this process ends in whatever way.

    Args:
        folder: the folder; made if absent.
        flag: what a user may give instead, for the message.
        part: ending of file names, where several processes share the folder by parts.

    Raises:
        FolderInUseError: if another process holds it, or this part of it.
        WriteError: if it cannot be written to.
    """
    lock = filelock.FileLock(folder / f".lock{part}", blocking=False)
    # Who holds it, in words. A file of its own: what is locked cannot be read everywhere.
    holder = folder / f".lock_holder{part}"
    with contextlib.ExitStack() as stack:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock)
            except filelock.Timeout as error:
                raise FolderInUseError(
                    f"{folder} is in use by {_name(holder)}: wait until it ends, end it, or give "
                    f"another {flag}"
                ) from error
        write_atomically(holder, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield


def _name(holder: Path) -> str:
    try:
        return holder.read_text().strip()
    except OSError:
        return "another process"
