"""Weight files on disk: safetensors, NumPy archives and PyTorch checkpoints into named arrays."""

import argparse
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

INDEX_SUFFIX = ".index.json"
"""How the index of a model in several files ends."""

WRAPPERS = ("teacher", "segmenter_state_dict", "state_dict", "model", "student")
"""Keys under which training programs put the state dict, the one to prefer first."""

PREFIX = re.compile(r"^(module\.|backbone\.)+")
"""What data-parallel and multi-crop wrappers put before the names."""

SHARED_PREFIXES = ("teacher.", "student.", "model.", "encoder.", "_orig_mod.")
"""What other wrappers put before the names. It is taken off where all names begin with it, for some
networks have an ``encoder`` of their own beside other parts."""

NOT_WEIGHTS = {
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML message",
    b"version https://git-lfs": "a Git LFS pointer",
}
"""How files begin, in lower case, that a download left in place of weights."""

MAXIMUM_TENSORS = 100_000
SMALL_BYTES = 2**30
MAXIMUM_GROWTH = 20
"""Tensors may take :data:`SMALL_BYTES`, or this many times the size of their file. Weights hardly
compress: more is a file made to fill the memory."""


def shard_names(index: Path) -> list[str]:
    """Return the files that an index of a large model names, which lie beside it.

    Raises:
        ValueError: the index is damaged, or names files elsewhere.
    """
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("no files, or files that do not lie beside it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of a model's files ({error})") from error
    return names


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read named tensors from ``.safetensors``, ``.npz``, ``.pth``, ``.pt`` or ``.bin``.

    A model in several files is named by its index, ``model.safetensors.index.json``.

    A checkpoint that holds its state dict under ``teacher``, ``segmenter_state_dict``,
    ``state_dict``, ``model`` or, where there is none of these, ``student`` is unwrapped; names of
    other dicts within dicts are joined by dots; the prefixes ``module.`` and ``backbone.`` are
    taken off the names, and ``teacher.``, ``student.``, ``model.``, ``encoder.`` and ``_orig_mod.``
    where all names share them. Only PyTorch's own files need PyTorch; nothing in a file is
    executed, and the memory that it takes is bounded by its size.

    Args:
        path: the file; its ending tells the format.

    Returns:
        Arrays on the host by name: floating point as float32, integers as they are.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: a PyTorch file, and PyTorch is not installed or cannot be imported.
        ValueError: the file is empty, damaged, of an unknown kind, holds anything but tensors, or
            tensors that take far more memory than the file is large.
    """
    path = Path(path)
    if path.name.endswith(INDEX_SUFFIX) and path.is_file():
        parts = [_read_file(path.with_name(name)) for name in shard_names(path)]
        if sum(map(len, parts)) != len(set().union(*parts)):
            raise ValueError(f"{path}: its files hold tensors of one name")
        return _without_shared_prefix(
            {name: tensor for part in parts for name, tensor in part.items()}, path
        )
    return _without_shared_prefix(_read_file(path), path)


def _read_file(path: Path) -> dict[str, np.ndarray]:
    _check_is_weights(path)
    try:
        tensors = _named_tensors(_unwrap(_load(path)), path)
    except RecursionError as error:
        raise ValueError(f"{path} holds dicts within dicts without end") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    _check_growth(path, sum(map(_float32_bytes, tensors.values())))
    return {name: _as_array(tensor, name, path) for name, tensor in tensors.items()}


def _without_shared_prefix(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    short = tensors
    while shared := [p for p in SHARED_PREFIXES if all(name.startswith(p) for name in short)]:
        short = {PREFIX.sub("", name.removeprefix(shared[0])): x for name, x in short.items()}
    if len(short) < len(tensors):
        raise ValueError(f"{path} holds tensors of one name under several prefixes")
    return short


def _check_is_weights(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"weight file not found: {path}")
    if path.suffix not in READERS:
        raise ValueError(f"{path} ends in {path.suffix!r}: expected one of {', '.join(READERS)}")
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: download it again")
    for signature, what in NOT_WEIGHTS.items():
        if start.startswith(signature):
            raise ValueError(f"{path} holds {what} instead of weights: download the file itself")
    if path.suffix != ".safetensors":
        _check_growth(path, _unpacked_bytes(path))


def _unpacked_bytes(path: Path) -> int:
    """Sum what the members of an archive say; .npz and most of PyTorch's files are archives."""
    try:
        if not zipfile.is_zipfile(path):
            return 0
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    # Damaged directories of archives have many exceptions, too.
    except Exception as error:
        raise _damaged(path, error) from error


def _check_growth(path: Path, needed: int) -> None:
    allowed = max(SMALL_BYTES, MAXIMUM_GROWTH * path.stat().st_size)
    if needed > allowed:
        raise ValueError(
            f"{path} holds {path.stat().st_size} bytes that unpack to {needed}, far more than "
            "weights do: get the file from another place"
        )


def _read_npz(path: Path) -> Mapping[str, Any]:
    # np.load leaves a file that it opened itself open when the archive is damaged.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_torch(path: Path) -> Any:
    try:
        import torch
    # A broken installation fails with ImportError, OSError, AttributeError, ...
    except Exception as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        problem = (
            "is not installed: pip install 'sempart_jax[torch]'"
            if is_missing
            else f"cannot be imported ({type(error).__name__}: {error}): install it anew"
        )
        raise ModuleNotFoundError(
            f"{path} is a PyTorch file, and PyTorch {problem}, or convert the file to .safetensors"
        ) from error
    # Whole DINO and iBOT checkpoints keep their command-line arguments, which are plain data.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


READERS: Mapping[str, Callable[[Path], Any]] = {
    ".safetensors": safetensors.numpy.load_file,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
}


def _load(path: Path) -> Mapping[str, Any]:
    try:
        loaded = READERS[path.suffix](path)
    except ModuleNotFoundError:
        raise
    # Damaged bytes make the three libraries raise some fifteen kinds of exception.
    except Exception as error:
        raise _damaged(path, error) from error
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a dict of tensors")
    return loaded


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} cannot be read as {path.suffix}; it is damaged, cut short or of another "
        f"format: download it again ({type(error).__name__}: {error})"
    )


def _unwrap(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    for wrapper in WRAPPERS:
        if isinstance(loaded.get(wrapper), Mapping):
            return _unwrap(loaded[wrapper])
    return loaded


def _flatten(tree: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{parent}{name}.")
        else:
            yield f"{parent}{name}", value


def _named_tensors(tree: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Give each tensor its one name, without prefixes."""
    tensors: dict[str, Any] = {}
    for name, tensor in _flatten(tree):
        short = PREFIX.sub("", name)
        if short in tensors:
            raise ValueError(f"{path} holds {short!r} more than once, under several prefixes")
        if len(tensors) == MAXIMUM_TENSORS:
            raise ValueError(f"{path} holds more than {MAXIMUM_TENSORS} tensors")
        tensors[short] = tensor
    return tensors


def _float32_bytes(tensor: Any) -> int:
    return 4 * math.prod(getattr(tensor, "shape", ()))


def _as_array(tensor: Any, name: str, path: Path) -> np.ndarray:
    if hasattr(tensor, "detach"):
        try:
            tensor = tensor.detach()
            # NumPy has no bfloat16, so PyTorch makes the float32 itself.
            tensor = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        # Sparse, quantized and other tensors, with an exception each.
        except Exception as error:
            raise ValueError(
                f"{path}: {name!r} is no plain tensor ({type(error).__name__}: {error})"
            ) from error
    if not isinstance(tensor, np.ndarray):
        raise ValueError(
            f"{path}: {name!r} is a {type(tensor).__name__}, expected a tensor; "
            f"a state dict may stand under one of {', '.join(WRAPPERS)}"
        )
    if tensor.dtype == np.dtype("V2"):
        # As NumPy stores bfloat16, for which it has no name.
        tensor = tensor.view(jnp.bfloat16)
    if jnp.issubdtype(tensor.dtype, jnp.floating):
        # What is too large becomes infinite, and is named by whoever checks the tensors.
        with np.errstate(over="ignore"):
            return tensor.astype(np.float32)
    if tensor.dtype.kind not in "biu":
        raise ValueError(f"{path}: {name!r} has dtype {tensor.dtype}, expected numbers")
    return tensor
