"""Deep Spectral Methods: the Fiedler vector of feature and colour affinities (arXiv 2205.07839)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from sempart_jax.baselines.components import largest_component
from sempart_jax.baselines.spectral import cosine_similarity, second_eigenvector

COLOR_NEIGHBOURS = (20, 10)
POSITION_WEIGHTS = (2.0, 0.1)
"""Neighbours that are sought, and what a distance over the whole image counts against colour."""


def deep_spectral(
    keys: Float[jax.Array, "B h w D"] | Float[np.ndarray, "B h w D"],
    image: Float[np.ndarray, "B h w 3"] | None = None,
    color_weight: float = 0.0,
) -> dict[str, np.ndarray]:
    """Segment one object an image by the sign of the Fiedler vector.

    Patches are joined by the cosine of their keys where it is positive, relative to the largest of
    the image, plus ``color_weight`` times :func:`color_affinity` (Sec. 3.2); the eigenvector is
    that of the normalised Laplacian's second smallest eigenvalue. Its positive side is the object;
    it is turned so that at most half of the patches are positive.

    Args:
        keys: keys of the backbone's last block ``[B, h, w, D]``.
        image: the images at the size of the grid of patches, RGB ``[B, h, w, 3]`` in [0, 1]; needed
            where ``color_weight`` is not 0.
        color_weight: weight lambda of the colour affinity; the authors take 10.

    Returns:
        ``mask``: bool ``[B, h, w]``, the largest 4-connected component of the positive side;
        ``foreground``: bool ``[B, h, w]``, all of it; ``eigenvector``: float32 ``[B, h, w]``.

    Raises:
        ValueError: if ``color_weight`` is negative, or the image is missing or of another size.
    """
    if color_weight < 0:
        raise ValueError(f"color_weight must not be negative, got {color_weight}")
    batch, height, width, _ = keys.shape
    nodes = height * width
    color = np.zeros((batch, nodes, nodes), np.float32)
    if color_weight:
        if image is None or image.shape != (batch, height, width, 3):
            shape = None if image is None else image.shape
            raise ValueError(
                f"color_weight {color_weight} needs images at the size of the grid, "
                f"{(batch, height, width, 3)}, got {shape}"
            )
        color = np.stack([color_affinity(each) for each in image]) * np.float32(color_weight)
    eigenvector = np.asarray(_fiedler_vector(jnp.asarray(keys), jnp.asarray(color)))
    positive = (eigenvector > 0).mean(axis=-1, keepdims=True)
    eigenvector = np.where(positive > 0.5, -eigenvector, eigenvector).reshape(batch, height, width)
    foreground = eigenvector > 0
    return {
        "mask": np.stack([largest_component(side) for side in foreground]),
        "foreground": foreground,
        "eigenvector": eigenvector,
    }


@jax.jit
def _fiedler_vector(
    keys: Float[jax.Array, "B h w D"], color: Float[jax.Array, "B N N"]
) -> Float[jax.Array, "B N"]:
    batch, height, width, channels = keys.shape
    similarity = cosine_similarity(keys.reshape(batch, height * width, channels))
    # W = max(cos, 0) / max over the image + lambda W_color
    affinity = jnp.maximum(similarity, 0)
    largest = jnp.max(affinity, axis=(1, 2), keepdims=True)
    return second_eigenvector(affinity / jnp.where(largest > 0, largest, 1) + color)


def color_affinity(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "N N"]:
    """Join patches of an RGB image that are near in colour and place (KNN matting, Sec. 3.2).

    Symmetric: how often one of a pair is among the nearest neighbours of the other, itself
    included, over the settings of :data:`COLOR_NEIGHBOURS`.
    """
    height, width = image.shape[:2]
    rows, columns = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    place = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    color = image.reshape(-1, 3).astype(np.float64)
    nodes = height * width
    affinity = np.zeros((nodes, nodes), np.float32)
    for count, weight in zip(COLOR_NEIGHBOURS, POSITION_WEIGHTS, strict=True):
        points = np.concatenate([color, weight * place], axis=1)
        neighbours = cKDTree(points).query(points, k=np.arange(1, min(count, nodes) + 1))[1]
        ones = np.repeat(np.arange(nodes), neighbours.shape[1])
        np.add.at(affinity, (ones, neighbours.ravel()), 1)
        np.add.at(affinity, (neighbours.ravel(), ones), 1)
    return affinity
