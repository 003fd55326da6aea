"""What is damaged of a directory of checkpoints: found, told and set aside."""

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sempart_jax.host.write_errors import writing

UNLISTED_ERRORS = (ValueError, KeyError, TypeError)
"""What orbax raises over a checkpoint whose score or description is damaged."""

_LONGEST_REASON = 200


def unlisted_steps(
    directory: Path,
    steps: Sequence[int],
    open_manager: Callable[[Path], AbstractContextManager[object]],
) -> dict[int, str]:
    """Find the checkpoints that orbax cannot list; it lists none then, and names none.

    Args:
        directory: holds them.
        steps: those that are there.
        open_manager: opens a directory of checkpoints by orbax.

    Returns:
        What is wrong with each damaged one, by its step.
    """
    damaged = {}
    for step in steps:
        # With each alone orbax does what it does with all.
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / str(step)).symlink_to(directory / str(step))
            try:
                with open_manager(Path(folder)):
                    pass
            except UNLISTED_ERRORS as error:
                damaged[step] = f"{directory / str(step)} is damaged: {one_line(error)}"
    return damaged


def move_aside(path: Path) -> Path:
    """Rename a damaged checkpoint.

    Args:
        path: the checkpoint.

    Returns:
        Its new name.

    Raises:
        WriteError: if it cannot be renamed.
    """
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged{count}")
    with writing(path):
        path.rename(aside)
    return aside


def one_line(error: Exception) -> str:
    """Put an error in a line; what matters in those of tensorstore comes last, after long paths."""
    lines = str(error).splitlines()
    line = lines[0] if lines else type(error).__name__
    if code := re.search(r"os_error_code='(\d+)'", line):
        return os.strerror(int(code[1]))
    return line if len(line) <= _LONGEST_REASON else f"...{line[-_LONGEST_REASON:]}"
