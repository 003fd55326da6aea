"""What there is of each data set, and of masks and boxes that are given for it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from sempart_jax.data.benchmarks import open_labelled_set
from sempart_jax.data.boxed import BOXED_SETS, open_boxed_set, read_boxes
from sempart_jax.evaluation.origin import saved_origin


class DataSets:
    """Looks each data set up once, and says what is missing."""

    def __init__(self, root: Path) -> None:
        """Take the folder that holds the data sets."""
        self.root = root
        self._counts: dict[str, int | None] = {}

    def images(self, name: str) -> int | None:
        """Count the images that can be scored, ``None`` if the data set is missing."""
        if name in BOXED_SETS:
            return self._look(name, lambda: len(open_boxed_set(name, self.root).paths))
        return self._look(name, lambda: len(open_labelled_set(name, self.root)))

    def annotated(self, name: str) -> int | None:
        """Count the images whose true boxes are known, ``None`` if there are none."""
        return self._look(f"boxes of {name}", lambda: len(read_boxes(name, self.root)))

    def identify_masks(self, folder: Path, name: str) -> str | None:
        """Identify given masks of a data set, ``None`` where either is missing.

        Args:
            folder: holds a folder of masks by the data set's name.
            name: key of the data set.
        """
        if not (folder / name).is_dir() or (images := self.images(name)) is None:
            return None
        stamps = json.dumps(saved_origin(folder / name).stamps)
        return f"{images} images, masks {digest(stamps.encode())}"

    def identify_boxes(self, file: Path, name: str) -> str | None:
        """Identify given boxes of a data set, ``None`` where the true ones are missing.

        Args:
            file: the given boxes.
            name: key of the data set.
        """
        images = self.annotated(name)
        return None if images is None else f"{images} images, boxes {digest(file.read_bytes())}"

    def _look(self, title: str, count: Callable[[], int]) -> int | None:
        if title not in self._counts:
            try:
                self._counts[title] = count()
            except FileNotFoundError as error:
                self._counts[title] = None
                print(f"# skipped: {title}: {error}", flush=True)
        return self._counts[title]


def digest(content: bytes) -> str:
    """Hash what identifies something, in 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]
