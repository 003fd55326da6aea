"""Finished parts of an evaluation on the disk, so that a killed one continues."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from sempart_jax.atomic_write import write_atomically


class PartStore:
    """A folder of parts of one data set under one protocol, all made in the same way."""

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        """Open the folder of the parts that were made in one way.

        Args:
            root: holds a folder for each way.
            identity: all that the parts follow from, as JSON can hold it. With another identity,
                none of the parts is found.
        """
        text = json.dumps(identity, sort_keys=True, indent=1)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._folder = root / digest[:16]
        # For people, and for whoever asks why parts were not found again.
        write_atomically(self._folder / "identity.json", text + "\n")

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """Read the arrays of a part.

        Args:
            number: which part.

        Returns:
            Its arrays by name; ``None`` if it was not kept, or is damaged, which is logged.
        """
        path = self._path(number)
        try:
            # NumPy does not close a file of its own that turns out to be damaged.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            logging.warning("scoring again what %s held, it is damaged: %s", path, error)
            return None

    def save(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays of a part.

        Args:
            number: which part.
            arrays: arrays without objects, by name.
        """
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        write_atomically(self._path(number), content.getvalue())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.npz"
