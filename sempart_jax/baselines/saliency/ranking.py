"""Saliency by graph-based manifold ranking (Yang et al., CVPR 2013)."""

import numpy as np
from jaxtyping import Float

from sempart_jax.baselines.saliency.superpixels import Superpixels
from sempart_jax.kernels.scales import unit_range

ALPHA = 0.99
THETA = 10.0
"""1 / sigma^2, for colour distances of the graph's edges brought to [0, 1]."""


def manifold_ranking(superpixels: Superpixels) -> Float[np.ndarray, " N"]:
    """Rank superpixels against the four sides, then with what differs from all (Sec. 3 and 4).

    Returns:
        Saliency in [0, 1]; 0 where all superpixels have one colour.
    """
    joined = superpixels.joined
    distance = unit_range(np.where(joined, superpixels.color_distance, 0))
    if not distance.any():
        return np.zeros(len(joined))
    # Eq. 4: w_ij = exp(-|c_i - c_j| / sigma^2)
    weights = np.where(joined, np.exp(-THETA * distance), 0)
    # Eq. 3: f = (D - alpha W)^(-1) y; a query does not count for itself
    affinity = np.linalg.inv(np.diag(weights.sum(axis=1)) - ALPHA * weights)
    np.fill_diagonal(affinity, 0)
    # Eq. 5 to 9: first stage, the product over the sides
    first = np.ones(len(joined))
    for side in superpixels.sides:
        first *= 1 - unit_range(affinity @ side)
    # Eq. 10: second stage, queries above the mean
    return unit_range(affinity @ (first > first.mean()))
