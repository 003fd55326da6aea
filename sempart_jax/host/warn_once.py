"""Warnings that are given once, for files are looked at again and again."""

import threading
from collections.abc import Hashable

_told: set[Hashable] = set()
# Threads read files at once.
_telling = threading.Lock()


def warn_once(text: str, subject: Hashable = None) -> None:
    """Log a warning, but no second one of its subject.

    Args:
        text: the warning.
        subject: what it is about; the text itself if None.
    """
    with _telling:
        key = text if subject is None else subject
        if key in _told:
            return
        _told.add(key)
    # Only here: an exported network runs without it.
    from absl import logging

    logging.warning("%s", text)
