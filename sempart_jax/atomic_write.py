"""Write a file so that it is either as before or complete, whenever the program is killed."""

import contextlib
import os
from pathlib import Path

from sempart_jax.write_errors import writing


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
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError:
            # A full disk has no room for half a file either.
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
