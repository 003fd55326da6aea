"""A package that is not there for a while, so that others do without it."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let ``import name`` raise ModuleNotFoundError inside, unless it is imported already.

    Args:
        name: of a package.
    """
    if name in sys.modules:
        yield
        return
    # As the reference of the import system says: None stops the search.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
