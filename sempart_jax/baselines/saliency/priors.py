"""Four saliency priors of an image, their calibrated mean, and a cut that starts from it."""

import numpy as np
from jaxtyping import Float, Int

from sempart_jax.baselines.saliency.automata import cellular_automata
from sempart_jax.baselines.saliency.background import robust_background
from sempart_jax.baselines.saliency.barrier import minimum_barrier
from sempart_jax.baselines.saliency.graph_cut import grab_cut
from sempart_jax.baselines.saliency.ranking import manifold_ranking
from sempart_jax.baselines.saliency.superpixels import Superpixels, describe, rgb_to_lab, slic
from sempart_jax.kernels.scales import otsu, unit_range

SLOPE = 10.0


def saliency_priors(image: Float[np.ndarray, "H W 3"]) -> dict[str, np.ndarray]:
    """Find the foreground of one image without network or training.

    Each prior is weighted towards the middle of the image, as MB+ does, and goes through a sigmoid
    of slope :data:`SLOPE` that is centred at its own Otsu threshold; their mean is cut by
    ``graph_cut.grab_cut``. Meant for images with a short side of about 128 pixels. All maps are
    constant over each of about 200 superpixels.

    Args:
        image: RGB in [0, 1], of any size.

    Returns:
        Float32 ``[H, W]`` in [0, 1], 1 is foreground: the priors ``robust_background``,
        ``manifold_ranking``, ``cellular_automata`` and ``minimum_barrier``; ``fused``, the mean of
        the calibrated priors; ``mask``, the mean of that and the cut, above 0.5 where the cut is
        foreground. An image of one colour is below 1e-4 in all of them.
    """
    lab = rgb_to_lab(image).astype(np.float64)
    superpixels = describe(slic(lab), lab)
    priors = {
        "robust_background": robust_background(superpixels),
        "manifold_ranking": manifold_ranking(superpixels),
        "cellular_automata": cellular_automata(superpixels),
        "minimum_barrier": minimum_barrier(superpixels, lab),
    }
    sizes = superpixels.sizes
    middle = centredness(superpixels)
    calibrated = np.stack(
        [calibrate(unit_range(prior * middle), sizes) for prior in priors.values()]
    )
    fused = calibrated.mean(axis=0)
    maps = {**priors, "fused": fused, "mask": (grab_cut(superpixels, fused) + fused) / 2}
    return {name: x.astype(np.float32)[superpixels.labels] for name, x in maps.items()}


def centredness(superpixels: Superpixels) -> Float[np.ndarray, " N"]:
    """Measure how near superpixels are to the middle of the image: 1 there, 0 in the corners."""
    height, width = superpixels.labels.shape
    rows, columns = np.indices((height, width))
    away = np.hypot((rows + 0.5) / height - 0.5, (columns + 0.5) / width - 0.5)
    return 1 - superpixels.mean(away) * np.sqrt(2)


def calibrate(
    prior: Float[np.ndarray, " N"], sizes: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Bring a prior's Otsu threshold to 0.5; one that is 0 everywhere stays below 1e-4."""
    return 1 / (1 + np.exp(-SLOPE * (prior - otsu(prior, sizes))))
