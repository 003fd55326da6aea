"""One folder, one process that writes to it: a second one is refused."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock
from absl import logging

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.errors import writing

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, 524)
"""What file systems over a network may answer; 524 is Linux's ENOTSUPP, which errno lacks."""


class FolderInUseError(ValueError):
    """Another process writes to this folder."""


@contextlib.contextmanager
def locked(folder: Path, flag: str, *, part: str = "", wait: bool = False) -> Iterator[None]:
    """Hold a folder; the system lets go of it when this process ends in whatever way.

    Where the file system has no locks, a warning says so and the folder is not held.

    Args:
        folder: the folder; made if absent.
        flag: what a user may give instead, for the message.
        part: ending of file names, where several processes share the folder by parts.
        wait: wait for whoever holds it, instead of the FolderInUseError.

    Raises:
        FolderInUseError: if another process holds it, or this part of it.
        WriteError: if it cannot be written to.
    """
    # A lock that is no more than a file would outlive a killed process.
    lock = filelock.FileLock(folder / f".lock{part}", blocking=wait, fallback_to_soft=False)
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
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                logging.warning(
                    "%s cannot be locked (%s): let no other process write to it",
                    folder,
                    error.strerror,
                )
        write_atomically(holder, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield


def _name(holder: Path) -> str:
    try:
        return holder.read_text().strip()
    except OSError:
        return "another process"
