"""Scores kept as named arrays, so that a part of an evaluation outlives its process."""

from collections.abc import Mapping

import numpy as np


def checked_arrays(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int | None, ...]]
) -> dict[str, np.ndarray]:
    """Read all arrays and refuse those that are not what has been kept.

    Args:
        arrays: arrays by name; an open ``.npz`` file will do.
        shapes: the shape of each by name, with None for the number of images, which all share.

    Returns:
        The arrays by the names of ``shapes``, not copied.

    Raises:
        ValueError: if an array is missing, unknown, not float64 or of the wrong shape.
    """
    missing = [name for name in shapes if name not in arrays]
    unknown = [name for name in arrays if name not in shapes]
    if missing or unknown:
        parts = [
            f"{kind} {', '.join(names)}"
            for kind, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise ValueError(
            f"these are not the arrays of such scores: {'; '.join(parts)} "
            f"(wanted are {', '.join(shapes)})"
        )
    read = {name: arrays[name] for name in shapes}
    images: int | None = None
    for name, shape in shapes.items():
        array = read[name]
        if images is None and None in shape and array.ndim == len(shape):
            images = array.shape[shape.index(None)]
        wanted = tuple(images if side is None else side for side in shape)
        if array.dtype != np.float64 or array.shape != wanted:
            shown = ", ".join("images" if side is None else str(side) for side in wanted)
            raise ValueError(
                f"array {name} must be float64 of shape [{shown}], got {array.dtype} of shape "
                f"{list(array.shape)}"
            )
    return read
