"""What can segment, a network's path or a method's name: told before JAX is imported."""

import os
from pathlib import Path

from sempart_jax.baselines.by_name import METHODS, is_found
from sempart_jax.networks.names import BACKBONES, check_backbone

METHOD_SHORT_SIDE = 320
"""Short side in pixels at which a method's backbone sees an image, where no other is asked for."""

CHECKPOINT_FOLDERS = {"checkpoints": False, "best": True}
"""Folders of a run that hold checkpoints, and whether they are the best by validation."""

KINDS = (
    "a run's directory (the --workdir of its training), one checkpoint of it "
    "(RUN/checkpoints/STEP or RUN/best/STEP), a model file (.safetensors), or a released head "
    "(.pth, .npz, .safetensors)"
)
"""What is taken, in words."""


def check_source(source: str | os.PathLike[str]) -> None:
    """Refuse a path that is neither a file, nor a run's directory, nor one of its checkpoints.

    Args:
        source: where a network is to be loaded from.

    Raises:
        FileNotFoundError: with what it is instead.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: name {KINDS}")
    if not (path.is_file() or (path / "config.json").exists() or _is_checkpoint(path)):
        raise FileNotFoundError(_describe_folder(path))


def check_method(
    method: str, backbone: str = "dino_vits8", decoder: str | os.PathLike[str] | None = None
) -> None:
    """Refuse a method that there is not, or that does not go with what is given for it.

    Args:
        method: name among :data:`METHODS`.
        backbone: name of the backbone.
        decoder: FOUND's decoder.

    Raises:
        ValueError: as said.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if decoder is not None and not is_found(method):
        raise ValueError(f"{method} has no decoder: leave it out")
    check_backbone(backbone)
    if is_found(method) and backbone not in BACKBONES:
        raise ValueError(
            f"{method} looks for the patch that the class token attends to least, and the backbone "
            f"{backbone} has no class token: choose one of {', '.join(BACKBONES)}"
        )


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
        return f"{path} holds checkpoints of these steps: {steps}; name the run or one of them"
    runs = [name for name in found if (path / name / "config.json").exists()]
    if runs:
        return f"no run in {path}, but in its folders {_few(runs)}: name one of them"
    return f"no run in {path}, which holds {_few(found)}: name {KINDS}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}" if names else "nothing"
