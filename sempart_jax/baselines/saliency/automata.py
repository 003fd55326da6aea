"""Saliency by cellular automata (BSCA; Qin et al., CVPR 2015)."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from sempart_jax.baselines.saliency.superpixels import Superpixels
from sempart_jax.kernels.scales import unit_range

CLUSTERS = 3
SIGMA_COLOR = 0.2
SIGMA_PLACE_SQUARED = 1.3
SIGMA_INFLUENCE_SQUARED = 0.1
BETA = 10.0
STEPS = 20
LEAST_COHERENCE, COHERENCE_RANGE = 0.2, 0.6

_K_MEANS_STEPS = 10
_LEAST_RANGE = 1.0


def image_range(lab: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Bring each channel to [0, 1] over the image; one that hardly differs stays small."""
    return (lab - lab.min(axis=0)) / np.maximum(np.ptp(lab, axis=0), _LEAST_RANGE)


def background_contrast(superpixels: Superpixels) -> Float[np.ndarray, " N"]:
    """Contrast to clusters of the border's colours, each weighted by nearness (Sec. 3.1)."""
    color = image_range(superpixels.lab)
    border = np.flatnonzero(superpixels.border)
    # K-means from thirds by lightness: the same clusters each time
    rank = np.argsort(np.argsort(color[border, 0], kind="stable"))
    cluster = rank * CLUSTERS // len(border)
    for _ in range(_K_MEANS_STEPS):
        centres = [color[border[cluster == k]].mean(axis=0) for k in np.unique(cluster)]
        cluster = cdist(color[border], np.stack(centres)).argmin(axis=1)
    saliency = np.zeros(len(color))
    for k in np.unique(cluster):
        members = border[cluster == k]
        distance = cdist(color, color[members])
        away = cdist(superpixels.place, superpixels.place[members], "sqeuclidean")
        # Eq. 1: difference in colour; Eq. 2: nearness; Eq. 3: their product, summed
        difference = 1 / (np.exp(-distance / (2 * SIGMA_COLOR**2)) + BETA)
        near = np.exp(-away / (2 * SIGMA_PLACE_SQUARED))
        saliency += unit_range(difference.mean(axis=1)) * unit_range(near.mean(axis=1))
    return unit_range(saliency)


def cellular_automata(superpixels: Superpixels) -> Float[np.ndarray, " N"]:
    """Let superpixels take saliency over from similar neighbours, for a number of steps (Sec. 3.2).

    Returns:
        Saliency in [0, 1]; 0 where all superpixels have one colour.
    """
    saliency = background_contrast(superpixels)
    color = image_range(superpixels.lab)
    # Eq. 4: influence of a neighbour, by colour
    influence = np.exp(-cdist(color, color) / SIGMA_INFLUENCE_SQUARED)
    influence = np.where(superpixels.joined, influence, 0)
    if not influence.any():
        return saliency
    # Eq. 6 and 7: coherence with oneself, in [0.2, 0.8]
    coherence = unit_range(1 / influence.max(axis=1)) * COHERENCE_RANGE + LEAST_COHERENCE
    influence /= influence.sum(axis=1, keepdims=True)
    for _ in range(STEPS):
        # Eq. 8: S' = C S + (I - C) F S
        saliency = coherence * saliency + (1 - coherence) * (influence @ saliency)
    return unit_range(saliency)
