"""The baselines by name: from keys and images to masks on patches."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from sempart_jax.baselines.deep_spectral import deep_spectral
from sempart_jax.baselines.lost import lost
from sempart_jax.baselines.tokencut import tokencut

COLOR_WEIGHT = 10.0
"""Weight of colour in Deep Spectral Methods, as its authors set it."""

Method = Callable[
    [Float[np.ndarray, "B h w D"], Float[np.ndarray, "B h w 3"]], Bool[np.ndarray, "B h w"]
]
"""From keys, and images at the size of the grid in [0, 1], to masks of one object each."""


def _tokencut(keys: np.ndarray, images: np.ndarray) -> np.ndarray:
    del images
    return tokencut(keys)["mask"]


def _lost(keys: np.ndarray, images: np.ndarray) -> np.ndarray:
    del images
    return lost(keys)["mask"]


def _deep_spectral(keys: np.ndarray, images: np.ndarray) -> np.ndarray:
    return deep_spectral(keys, images, COLOR_WEIGHT)["mask"]


METHODS: Mapping[str, Method] = MappingProxyType(
    {"tokencut": _tokencut, "lost": _lost, "deep_spectral": _deep_spectral}
)
"""TokenCut (arXiv 2202.11539), LOST (arXiv 2109.14279) and Deep Spectral Methods (arXiv
2205.07839), each with its authors' settings. They need no training, and choose their foreground
themselves."""
