"""GrabCut on superpixels (after Rother et al., SIGGRAPH 2004)."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from sempart_jax.baselines.saliency.superpixels import Superpixels

SURE_BACKGROUND, SURE_FOREGROUND = 0.2, 0.8
SIGMA_COLOR = 4.0
"""Width of the kernel by which colours are counted, where GrabCut fits mixtures of Gaussians."""

SMOOTHNESS = 2.4
ROUNDS = 2

_LEAST_DENSITY = 1e-6
_FOR_SURE = 1e3
_PER_UNIT = 1e5


def grab_cut(superpixels: Superpixels, saliency: Float[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Cut an image in two by the colours of both sides, along its edges.

    Starts from saliency above 0.5. Below :data:`SURE_BACKGROUND` and above :data:`SURE_FOREGROUND`,
    superpixels keep their side. Each round counts the colours of both sides, then finds the cut of
    least energy: the negative logarithm of each superpixel's density in its own side, times its
    area; plus, for those of different sides that touch at a colour distance d,
    ``SMOOTHNESS * length * exp(-d^2 / (2 mean d^2))``. The mean superpixel has the area 1.

    Args:
        superpixels: of the image.
        saliency: of each, in [0, 1].

    Returns:
        The foreground of the last cut; as it started where that was all or nothing.
    """
    unit = superpixels.sizes.mean()
    area = superpixels.sizes / unit
    first, second, shared = superpixels.edges
    distance = superpixels.color_distance[first, second] ** 2
    scale = 2 * max(float(distance.mean()), _LEAST_DENSITY) if len(distance) else 1.0
    smoothness = SMOOTHNESS * shared / np.sqrt(unit) * np.exp(-distance / scale)
    kernel = np.exp(-(superpixels.color_distance**2) / (2 * SIGMA_COLOR**2)) * area
    sure = np.where(saliency > SURE_FOREGROUND, _FOR_SURE, 0.0)
    sure[saliency < SURE_BACKGROUND] = -_FOR_SURE
    foreground = saliency > 0.5
    for _ in range(ROUNDS):
        if foreground.all() or not foreground.any():
            break
        inside, outside = (kernel @ side / area[side].sum() for side in (foreground, ~foreground))
        evidence = np.log((inside + _LEAST_DENSITY) / (outside + _LEAST_DENSITY))
        foreground = minimum_cut(evidence * area + sure, first, second, smoothness)
    return foreground


def minimum_cut(
    gain: Float[np.ndarray, " N"],
    first: Int[np.ndarray, " E"],
    second: Int[np.ndarray, " E"],
    weights: Float[np.ndarray, " E"],
) -> Bool[np.ndarray, " N"]:
    """Choose the nodes of the largest total gain, less costs of edges between chosen and others.

    ``gain`` is negative where choosing costs; ``first`` and ``second`` are the ends of each edge.
    """
    count = len(gain)
    nodes, source, sink = np.arange(count), np.full(count, count), np.full(count, count + 1)
    capacity = np.concatenate([np.maximum(gain, 0), np.maximum(-gain, 0), weights, weights])
    start = np.concatenate([source, nodes, first, second])
    end = np.concatenate([nodes, sink, second, first])
    # SciPy's maximum flow takes whole numbers.
    whole = np.rint(capacity * _PER_UNIT).astype(np.int32)
    graph = csr_array((whole, (start, end)), shape=(count + 2, count + 2))
    left = csr_array(graph - maximum_flow(graph, count, count + 1).flow)
    left.eliminate_zeros()
    reached = breadth_first_order(left, count, return_predecessors=False)
    chosen = np.zeros(count + 2, bool)
    chosen[reached] = True
    return chosen[:count]
