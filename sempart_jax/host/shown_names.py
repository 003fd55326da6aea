"""Names of files in messages: on one line, whatever bytes they hold, and not too many."""

import os
from collections.abc import Sequence

_SHOWN = 5


def printable(path: str | os.PathLike[str]) -> str:
    """Show a path on one line, in quotes if it holds what would break it or no stream can take."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def shorten(names: Sequence[str]) -> str:
    """List the first few names and count the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more
