"""Names of data sets, protocols and post-processings as a caller lists them."""

from collections.abc import Mapping, Sequence


def check_names(
    kind: str, names: Sequence[str], known: Sequence[str] | Mapping[str, object]
) -> None:
    """Refuse names that are unknown or given twice, and none at all.

    Args:
        kind: what is named, for the message.
        names: the names.
        known: those that there are.

    Raises:
        ValueError: as said.
    """
    if not names:
        raise ValueError(f"no {kind} is named: choose among {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}: choose among {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"{kind} {name} is named twice")
