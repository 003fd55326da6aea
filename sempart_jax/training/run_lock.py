"""One working directory, one training: a second process is refused."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from sempart_jax.atomic_write import write_atomically
from sempart_jax.write_errors import writing

_LOCK = ".lock"
_HOLDER = ".lock_holder"
"""Who holds the lock, in words. A file of its own: what is locked cannot be read everywhere."""


class RunInUseError(ValueError):
    """Another process trains in this working directory."""


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold a working directory; the system lets go of it when this process ends in whatever way.

    Args:
        workdir: directory of a run; made if absent.

    Raises:
        RunInUseError: if another process holds it.
        WriteError: if it cannot be written to.
    """
    lock = filelock.FileLock(workdir / _LOCK, blocking=False)
    with contextlib.ExitStack() as stack:
        with writing(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(lock)
            except filelock.Timeout as error:
                raise RunInUseError(
                    f"{workdir} is in use by {_holder(workdir)}: wait until it ends, end it, or "
                    "give another --workdir"
                ) from error
        write_atomically(workdir / _HOLDER, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield


def _holder(workdir: Path) -> str:
    try:
        return (workdir / _HOLDER).read_text().strip()
    except OSError:
        return "another process"
