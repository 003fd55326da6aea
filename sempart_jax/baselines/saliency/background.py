"""Saliency by robust background detection (RBD; Zhu et al., CVPR 2014)."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from sempart_jax.baselines.saliency.superpixels import Superpixels
from sempart_jax.kernels.scales import otsu, unit_range

CLIP = 3.0
"""Colour distance between neighbours that counts as none, or small ones add up over a long way."""

SIGMA_GEODESIC = 7.0
SIGMA_COLOR = 10.0
SIGMA_PLACE = 0.25
MU = 0.1
"""Weight between neighbours of any colours, which erodes noise."""


def boundary_connectivity(superpixels: Superpixels) -> Float[np.ndarray, " N"]:
    """Measure how much of the image's border the region around each superpixel holds (Eq. 2 to 4).

    Returns:
        Length along the border over the square root of the area: about 1 to 5 in the background,
        below 1 in objects.
    """
    border = superpixels.border
    edges = superpixels.adjacent | np.outer(border, border)
    # Eq. 2: length of the shortest path, in colour distance
    path = np.where(edges, np.maximum(superpixels.color_distance - CLIP, 0), np.inf)
    path = path.astype(np.float32)
    np.fill_diagonal(path, 0)
    for node in range(len(path)):  # Floyd and Warshall
        np.minimum(path, path[:, node, None] + path[node], out=path)
    # Eq. 3: spanning area; Eq. 4: length along the border
    similar = np.exp(-(path**2) / (2 * SIGMA_GEODESIC**2))
    return similar[:, border].sum(axis=1) / np.sqrt(similar.sum(axis=1))


def robust_background(superpixels: Superpixels) -> Float[np.ndarray, " N"]:
    """Contrast to the probable background, smoothed over the graph (RBD).

    As in the authors' code, contrast below Otsu's threshold is taken for none.

    Returns:
        Saliency in [0, 1]; 0 where all superpixels have one colour.
    """
    connectivity = boundary_connectivity(superpixels)
    # Eq. 6, sigma 1: probability of the background
    background = 1 - np.exp(-(connectivity**2) / 2)
    # Eq. 5 and 7: contrast, near and in colour, weighted by the background
    away = cdist(superpixels.place, superpixels.place, "sqeuclidean")
    near = np.exp(-away / (2 * SIGMA_PLACE**2))
    contrast = unit_range((superpixels.color_distance * near) @ background)
    contrast[contrast < otsu(contrast, superpixels.sizes)] = 0
    # Eq. 9 and 10: sum of w_bg s^2 + w_fg (s - 1)^2 + w_ij (s_i - s_j)^2, least where
    # (W_bg + W_fg + D - W) s = w_fg
    similar = np.exp(-(superpixels.color_distance**2) / (2 * SIGMA_COLOR**2)) + MU
    weights = np.where(superpixels.joined, similar, 0)
    system = np.diag(background + contrast + weights.sum(axis=1)) - weights
    return unit_range(np.linalg.solve(system, contrast))
