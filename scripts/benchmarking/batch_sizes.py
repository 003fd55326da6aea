"""Batch sizes on a command line."""

from collections.abc import Sequence


def parse_batch_sizes(values: Sequence[str]) -> list[int]:
    """Read the flag ``--batch_sizes``.

    Args:
        values: its items.

    Returns:
        The sizes in ascending order, each once.

    Raises:
        ValueError: if one is no positive integer, or there is none.
    """
    if not values or not all(value.isdecimal() and int(value) > 0 for value in values):
        raise ValueError(
            f"--batch_sizes={','.join(values)}: give positive integers, as --batch_sizes=8,32"
        )
    return sorted({int(value) for value in values})
