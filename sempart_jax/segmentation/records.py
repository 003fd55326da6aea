"""A line for each finished image, by which a second call knows what it need not do again."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from absl import logging

from sempart_jax.data.folder import PRODUCT_RECORDS
from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.segmentation.inputs import Shard

Record = dict[str, Any]
"""An object of a line, see :class:`RecordFile`."""


def read_records(root: Path, pattern: str = PRODUCT_RECORDS) -> dict[Path, list[Record]]:
    """Read the records of each image, several where it was done again by another process.

    A killed process, or one that writes right now, may leave half a line. Whole lines that are no
    records are left out with a warning: their images are done again.
    """
    records: dict[Path, list[Record]] = {}
    for path in sorted(root.glob(pattern)):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            names = ("image", "name", "stamp", "settings")
            whole = isinstance(record, dict) and isinstance(record.get("objects", 1), int)
            if whole and all(isinstance(record.get(n), str) for n in names):
                records.setdefault(Path(record["image"]), []).append(record)
            else:
                logging.warning("%s: line %d is no record, and is left out", path, number)
    return records


class RecordFile:
    """The records of one process, a JSON object a line; a context manager, for any threads.

    A line holds ``image`` (absolute path; bytes that are no UTF-8 as lone surrogates, which
    ``os.fsencode`` turns back), ``name`` and the paths of the written files under the output folder
    by kind (``mask``, ``overlay``, ``cutout``); ``height`` and ``width``; of the cut mask ``box``
    (``[x_min, y_min, x_max, y_max]`` of its largest component, ends exclusive, or null) and
    ``area`` (share of the pixels); ``confidence`` (see ``objects.expected_iou``); ``seconds``
    (reading, a share of the time from its batch's turn until its masks arrived, post-processing and
    writing); and ``stamp`` of the file and ``settings``, by which outdated lines are known.

    Where an image may have several objects, it has a line for each, with its ``object`` (value in
    the mask, from 1 on), how many ``objects`` there are, and box, area and confidence of that one.
    An image without objects has one line, with both 0.
    """

    def __init__(self, path: Path, kept: Iterable[Record]) -> None:
        """Start the file with the lines that still hold; the others, and half a line, are dropped.

        Raises:
            OSError: if it cannot be written.
        """
        write_atomically(path, "".join(_line(record) for record in kept))
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def __enter__(self) -> "RecordFile":
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def add(self, *records: Record) -> None:
        """Append the lines of one image.

        Raises:
            OSError: if they cannot be written; the file then ends with the line before.
        """
        line = "".join(map(_line, records)).encode("ascii")
        with self._lock:
            end = self._file.seek(0, 2)
            written = 0
            try:
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                self._file.truncate(end)
                raise


def is_done(
    root: Path, stamp: str, records: Iterable[Record], settings: str, kinds: Iterable[str]
) -> bool:
    """Tell whether an image's records name all kinds of files, of this content and these settings.

    ``stamp`` is that of the image's file now, ``settings`` the digest of them now.
    """
    found = [
        record
        for record in records
        if (record["stamp"], record["settings"]) == (stamp, settings)
        and all(
            isinstance(name := record.get(kind), str) and (root / name).is_file() for kind in kinds
        )
    ]
    # A killed process may have left lines of some objects alone.
    return bool(found) and len(found) >= found[0].get("objects", 1)


def drop_records(root: Path, shard: Shard) -> None:
    """Forget what this process is about to do again: its own records, and those of other sharings.

    The other processes of the same sharing forget their own.
    """
    ending = f"-of-{shard.count}.jsonl"
    for path in root.glob(PRODUCT_RECORDS):
        if path.name == shard.record_name or not path.name.endswith(ending):
            path.unlink(missing_ok=True)


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"
