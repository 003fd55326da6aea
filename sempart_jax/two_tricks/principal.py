"""The foreground that a whole data set has in common: the first principal component of its patches.

Not part of the papers. The features of DINOv2 tell object from background along one direction for
all images (arXiv 2304.07193, Sec. 7.5), where the best normalized cut of one image is often
something else. The direction, and where on it the foreground begins, come from the features of a
few hundred images and no label.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Float

from sempart_jax.kernels.scales import otsu, unit_range
from sempart_jax.two_tricks.affinity import inverse_length

_BINS = 512
_BANDWIDTH = 0.1
"""Of the density along the direction, in standard deviations."""
_STEEPNESS = 10.0
"""How much steeper than the distance of the two groups the step between them is."""


@dataclasses.dataclass(frozen=True, eq=False)
class PrincipalForeground:
    """A direction in the space of features, and where on it the foreground begins.

    Attributes:
        mean: mean of the features of length one ``[D]``.
        direction: their first principal component, towards the foreground ``[D]``.
        threshold: place on the direction, from the mean, with as much of foreground as background.
        distance: between the mean places of background and foreground, positive.
    """

    mean: Float[np.ndarray, " D"]
    direction: Float[np.ndarray, " D"]
    threshold: float
    distance: float

    def __call__(self, features: Float[Array, "B h w D"]) -> Float[Array, "B h w 1"]:
        """Say how much of foreground a patch is, in (0, 1); no gradient flows into the features."""
        features = lax.stop_gradient(features.astype(jnp.float32))
        direction = jnp.asarray(self.direction, jnp.float32)
        place = (features * inverse_length(features)) @ direction - float(
            self.mean @ self.direction
        )
        return nn.sigmoid(_STEEPNESS * (place - self.threshold) / self.distance)[..., None]


def fit_principal_foreground(features: Float[np.ndarray, "N h w D"]) -> PrincipalForeground:
    """Find the direction, and the valley between the two groups of patches along it.

    The border of the images has less of the foreground. The groups are those of Otsu's threshold
    (IEEE Trans. SMC 9(1), 1979); the foreground begins where the density of patches between their
    means is least.

    Args:
        features: of the patches of whole images, so that the border is that of the images.

    Raises:
        ValueError: if all features are equal.
    """
    features = features.astype(np.float64)
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    flat = unit.reshape(-1, unit.shape[-1])
    mean = flat.mean(axis=0)
    variances, components = np.linalg.eigh(np.cov(flat, rowvar=False, bias=True))
    if variances[-1] <= 1e-12:
        raise ValueError("the features of all patches are equal: there is no principal component")
    direction = components[:, -1]
    places = (unit - mean) @ direction
    border = np.ones(places.shape[1:], bool)
    border[1:-1, 1:-1] = False
    if places[:, border].mean() > places.mean():
        direction, places = -direction, -places
    return PrincipalForeground(mean, direction, *_valley(places.ravel()))


def _valley(places: Float[np.ndarray, " N"]) -> tuple[float, float]:
    """Return where the density between two groups is least, and the distance of their means."""
    scaled = unit_range(places)
    is_upper = scaled >= otsu(scaled, np.ones(len(places), int))
    lower, upper = float(places[~is_upper].mean()), float(places[is_upper].mean())
    counts, edges = np.histogram(places, _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    grid = np.linspace(lower, upper, 200)
    kernel = np.exp(-(((grid[:, None] - centres) / (_BANDWIDTH * places.std())) ** 2) / 2)
    return float(grid[np.argmin(kernel @ counts)]), upper - lower
