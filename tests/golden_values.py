"""Values of the released implementation: stored in ``tests/golden``, or drawn again from a seed."""

import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"

STREAMS = {
    "dino_vit": (1000, ["dino_vit"]),
    "head": (1000, ["dino_vit", "head"]),
    "train_baseline": (77, ["train"]),
    "train_tricks": (77, ["train"]),
}
"""Per file a seed, and the groups of ``drawn.json`` that were drawn from it, its own last."""


def _draw(rng: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    """Draw a tensor as it was drawn for the released implementation, in every bit."""
    x = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return 1 + np.float32(0.5) * abs(x)
    if "/" not in name:  # an input of the network
        return x
    if not name.endswith(".weight"):
        return np.float32(0.1) * x
    if x.ndim == 1:
        return 1 + np.float32(0.1) * x
    return (x.astype(np.float64) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def load(name: str) -> dict[str, np.ndarray]:
    """Return every array of the file ``name``, parameters under the names of PyTorch."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        values = dict(arrays)
    if name in STREAMS:
        seed, groups = STREAMS[name]
        rng = np.random.default_rng(seed)
        shapes = json.loads((GOLDEN / "drawn.json").read_text())
        for group in groups:
            drawn = {key: _draw(rng, key, shape) for key, shape in shapes[group].items()}
        values |= drawn
    return values
