"""Errors that a user can mend."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class ExpectedError(Exception):
    """Told in one line by every entry point, without a traceback."""


class WriteError(OSError):
    """A file cannot be written; the message names it and the system's reason."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in the errors of whatever writes it inside.

    Args:
        path: file, or folder of files.

    Raises:
        WriteError: in place of an ``OSError``, which often does not say of which file it is.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
