"""Which images of a collection each of several processes does."""

import dataclasses
from collections.abc import Iterable

from sempart_jax.segmentation.inputs import ImageFile, path_digest


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which of several processes this is.

    Attributes:
        index: from 0.
        count: number of processes.
    """

    index: int = 0
    count: int = 1

    @property
    def record_name(self) -> str:
        """Name of the file of this process's records."""
        return "masks.jsonl" if self.count == 1 else f"masks.{self.label}.jsonl"

    @property
    def label(self) -> str:
        """The shard as a part of file names."""
        return f"{self.index}-of-{self.count}"


def in_shard(files: Iterable[ImageFile], shard: Shard) -> list[ImageFile]:
    """Take the images of one of several processes.

    Shards are drawn by the path, not dealt out in turn: files that come or go while the processes
    start put no other file into two shards, or none.

    Args:
        files: all images.
        shard: this process.
    """
    return [
        file for file in files if int(path_digest(file.path)[:15], 16) % shard.count == shard.index
    ]


def parse_shard(text: str) -> Shard:
    """Read ``i/n``.

    Args:
        text: number of a process, from 0, and how many there are.

    Raises:
        ValueError: if it is something else.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"--shard is i/n with i from 0 to n-1, 0/4 to 3/4 for four processes, got {text!r}"
        )
    return Shard(int(index), int(count))
