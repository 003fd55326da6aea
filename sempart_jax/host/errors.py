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
        raise WriteError(f"cannot write {path}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """Say what stands where a folder is wanted, of which the system says only that it is there."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        for path in (Path(error.filename), *Path(error.filename).parents):
            if path.is_symlink() and not path.exists():
                return f"{path} is a link to {path.readlink()}, which does not exist"
            if path.is_file():
                return f"{path} is a file, and a folder is wanted"
    return error.strerror or str(error)
