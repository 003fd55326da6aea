"""The models that come with the package, for those who have trained none."""

import importlib.resources
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(str(importlib.resources.files("sempart_jax"))) / "builtin"
NAME = "builtin"
"""What stands for the model that needs no download where a source is asked for."""
FILE = "model.safetensors"
DINOV2 = "dinov2"
"""What stands for Sempart's head over DINOv2 ViT-S/14, whose weights are downloaded once."""
FILES: Mapping[str, str] = {DINOV2: "dinov2_vits14.safetensors", NAME: FILE}
"""Files of the models by name, the one to prefer first."""
LARGEST = 14_000_000
"""Bytes that a file may have: everybody who installs the package downloads it."""


def find_builtin_model(name: str = NAME) -> Path | None:
    """Return the file of a model; ``None`` if this installation has none."""
    path = FOLDER / FILES[name]
    return path if path.is_file() else None


def builtin_model_path(name: str | None = None) -> Path:
    """Return the file of a model."""
    for wanted in FILES if name is None else (name,):
        path = find_builtin_model(wanted)
        if path is not None:
            return path
    wanted = name if name == DINOV2 else "built-in"
    raise FileNotFoundError(
        f"this installation of sempart_jax has no {wanted} model: "
        "name a run or a model file (--workdir, or the source of load_segmenter), or a method "
        "that needs no training (--method of segment, or load_method_segmenter)"
    )
