"""Write a file so that it is as before or complete, whenever the program or the machine stops."""

import contextlib
import os
from pathlib import Path

from sempart_jax.host.errors import writing


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside the file's final name and rename.

    Args:
        path: file to write; its folder is made if absent.
        content: bytes, or text that is encoded as UTF-8 (file names that are no UTF-8 keep their
            bytes).

    Raises:
        WriteError: if it cannot be written; the file is as before.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                # Or a machine that loses power may have the new name without the content.
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except OSError:
            # A full disk has no room for half a file either.
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        # Windows opens no folders, and may write to some that may not be read.
        return
    try:
        # Not all file systems can: the file is whole in any case.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
