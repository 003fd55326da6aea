"""Nested parameters as flat names, and what is wrong with the tensors under them."""

import hashlib
import os
from collections.abc import Callable, Mapping
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
    # Only here, and below: an exported network runs without Flax.
    from flax.traverse_util import flatten_dict

    return {f"{prefix}{name}": leaf for name, leaf in flatten_dict(tree, sep="/").items()}


def unflatten(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Undo :func:`flatten` for the names that begin with ``prefix``."""
    from flax.traverse_util import unflatten_dict

    chosen = {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}
    return dict(unflatten_dict(chosen, sep="/"))


def tensor_problems(
    tensors: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    called: Callable[[str], str] = str,
) -> str:
    """Say what is wrong with the tensors of a file, which must be all of a network's and no others.

    Args:
        tensors: what was found, by name.
        shapes: what is expected.
        called: from the name of a tensor to that for the message.

    Returns:
        A line a kind of problem, that names all tensors which are missing, left over, misshapen or
        not finite, and running variances of batch norm that are negative: a root of them would be
        NaN. Empty if there is none.
    """
    present = {name: np.asarray(tensors[name]) for name in shapes if name in tensors}
    problems = {
        "missing": [f"{called(n)} {shape}" for n, shape in shapes.items() if n not in tensors],
        "not known": [f"{called(n)} {np.shape(t)}" for n, t in tensors.items() if n not in shapes],
        "of another shape": [
            f"{called(n)}: expected {shapes[n]}, found {t.shape}"
            for n, t in present.items()
            if t.shape != shapes[n]
        ],
        "with NaN or infinity": [called(name) for name in not_finite(present)],
        "of negative variances": [
            called(n)
            for n, t in present.items()
            if ("batch_stats/" in n and n.endswith("/var")) or n.endswith(".running_var")
            if np.any(t < 0) and not not_finite({n: t})
        ],
    }
    return "\n".join(f"  {kind}: {'; '.join(names)}" for kind, names in problems.items() if names)


def check_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
) -> None:
    """Raise ValueError if :func:`tensor_problems` of a file finds any."""
    if problems := tensor_problems(tensors, shapes):
        raise ValueError(f"{path} does not hold {what}; tensors\n{problems}")


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
