"""What a trained network can be loaded from, by its path: told before JAX is imported."""

import os
from pathlib import Path

from sempart_jax.networks import builtin_model

CHECKPOINT_FOLDERS = {"checkpoints": False, "best": True}
"""Folders of a run that hold checkpoints, and whether they are the best by validation."""

KINDS = (
    "a run's directory (the --workdir of its training), one checkpoint of it "
    "(RUN/checkpoints/STEP or RUN/best/STEP), a model file (.safetensors), a released head "
    f"(.pth, .npz, .safetensors), or {' or '.join(builtin_model.FILES)}"
)
"""What is taken, in words."""


def find_source(source: str | os.PathLike[str] | None) -> Path:
    """Return the path of a file, of a run's directory, or of one of its checkpoints.

    Args:
        source: where a network is to be loaded from; a string that is a name in
            ``builtin_model.FILES``, and no path, stands for that model of the package, None for
            the first of them that there is.

    Raises:
        FileNotFoundError: it is something else, or this installation lacks the model.
    """
    if source is None or source in builtin_model.FILES:
        return builtin_model.builtin_model_path(source if source is None else str(source))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give {KINDS}")
    if not (path.is_file() or (path / "config.json").exists() or _is_checkpoint(path)):
        raise FileNotFoundError(_describe_folder(path))
    return path


def _is_checkpoint(path: Path) -> bool:
    folder = path.absolute().parent
    is_step = path.absolute().name.isdecimal() and folder.name in CHECKPOINT_FOLDERS
    return is_step and (folder.parent / "config.json").exists()


def _describe_folder(path: Path) -> str:
    """Say why a folder is no source, from what lies in it."""
    if (path / "model.json").exists():
        return f"{path} is an exported network: load it with sempart_jax.load_exported"
    found = sorted(entry.name for entry in path.iterdir())
    if path.absolute().name in CHECKPOINT_FOLDERS and (path / "../config.json").exists():
        steps = ", ".join(name for name in found if name.isdecimal()) or "none"
        return f"{path} holds checkpoints of these steps: {steps}; give the run or one of them"
    runs = [name for name in found if (path / name / "config.json").exists()]
    if runs:
        return f"no run in {path}, but in its subfolders {_few(runs)}: give one of them"
    return f"no run in {path}, which holds {_few(found)}: give {KINDS}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}" if names else "nothing"
