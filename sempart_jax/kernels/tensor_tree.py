"""Nested parameters as flat names, and what is wrong with the tensors under them."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def flatten(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Turn nested dicts into one dict.

    Args:
        tree: parameters, or their shapes, as Flax nests them.
        prefix: put before each name, such as ``backbone/``.

    Returns:
        Leaves by names joined with ``/``.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Undo :func:`flatten` for the names that begin with ``prefix``."""
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            *parents, leaf = name.removeprefix(prefix).split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = tensor
    return tree


def check_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
) -> None:
    """Check that a file holds the tensors of a network, all of them and no others.

    Args:
        path: the file, for the message.
        tensors: what was found, by name.
        shapes: what is expected.
        what: the network in words.

    Raises:
        ValueError: names all tensors that are missing, left over, misshapen or not finite, and
            running variances of batch norm that are negative: a root of them would be NaN.
    """
    problems = {
        "missing": [f"{n} {shape}" for n, shape in shapes.items() if n not in tensors],
        "not known": [f"{n} {t.shape}" for n, t in tensors.items() if n not in shapes],
        "of another shape": [
            f"{n}: expected {shapes[n]}, found {t.shape}"
            for n, t in tensors.items()
            if n in shapes and t.shape != shapes[n]
        ],
        "with NaN or infinity": not_finite(tensors),
        "of negative variances": [
            n
            for n, t in tensors.items()
            if "batch_stats/" in n and n.endswith("/var") and t.size and t.min() < 0
        ],
    }
    if any(problems.values()):
        listing = "\n".join(
            f"  {kind}: {'; '.join(names)}" for kind, names in problems.items() if names
        )
        raise ValueError(f"{path} does not hold {what}; tensors\n{listing}")


def not_finite(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity."""
    return [name for name, x in tensors.items() if not np.isfinite(x.astype(np.float32)).all()]


def fingerprint_params(params: Any) -> str:
    """Short hash of a tree's names, shapes and values.

    Args:
        params: tree of arrays.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
