"""The model that comes with the package, for those who have trained none."""

import importlib.resources
from pathlib import Path

NAME = "builtin"
"""Stands for the built-in model wherever a network is loaded; ``./builtin`` is a path."""
FOLDER = Path(str(importlib.resources.files("sempart_jax"))) / "builtin"
FILE = "model.safetensors"
LARGEST = 14_000_000
"""Bytes that the file may have: everybody who installs the package downloads it."""


def find_builtin_model() -> Path | None:
    """Return the file of the built-in model; ``None`` if this installation has none."""
    path = FOLDER / FILE
    return path if path.is_file() else None


def builtin_model_path() -> Path:
    """Return the file of the built-in model.

    Raises:
        FileNotFoundError: if this installation has none.
    """
    path = find_builtin_model()
    if path is None:
        raise FileNotFoundError(
            "this installation of sempart_jax has no built-in model: name a run or a model file "
            "(--workdir, or the source of load_segmenter), or a method that needs no training "
            "(--method of segment, or load_method_segmenter)"
        )
    return path
