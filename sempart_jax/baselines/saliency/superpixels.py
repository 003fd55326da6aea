"""Superpixels of an image, and the graph over which their saliency spreads."""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from scipy.spatial.distance import cdist

SUPERPIXELS = 200
"""About how many an image is divided into, whatever its size."""

COMPACTNESS = 10.0
"""What a distance of one cell counts against one of colour; m of SLIC."""

# Linear sRGB (IEC 61966-2-1) to XYZ, over the white point D65.
_RGB_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
) / np.array([[0.950456], [1.0], [1.088754]])


Edges = tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"], Int[np.ndarray, " E"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Superpixels:
    """Superpixels, and what is known of each.

    Attributes:
        labels: number of each pixel's superpixel.
        sizes: pixels of each.
        lab: mean CIELAB colour of each.
        place: mean row and column of each, over the image's longer side.
        sides: which of them touch the top, bottom, left and right of the image.
        edges: the pairs that touch each other, and how many pixels long their common border is.
    """

    labels: Int[np.ndarray, "H W"]
    sizes: Int[np.ndarray, " N"]
    lab: Float[np.ndarray, "N 3"]
    place: Float[np.ndarray, "N 2"]
    sides: Bool[np.ndarray, "4 N"]
    edges: Edges

    @functools.cached_property
    def border(self) -> Bool[np.ndarray, " N"]:
        """Which superpixels touch any side of the image."""
        return np.asarray(self.sides.any(axis=0))

    @functools.cached_property
    def adjacent(self) -> Bool[np.ndarray, "N N"]:
        """Which pairs touch each other."""
        first, second, _ = self.edges
        adjacent = np.zeros((len(self.sizes), len(self.sizes)), bool)
        adjacent[first, second] = adjacent[second, first] = True
        return adjacent

    @functools.cached_property
    def color_distance(self) -> Float[np.ndarray, "N N"]:
        """Euclidean distance of the mean colours of all pairs."""
        return cdist(self.lab, self.lab)

    @functools.cached_property
    def joined(self) -> Bool[np.ndarray, "N N"]:
        """Edges of the graph: pairs that touch each other or one and the same, or the border."""
        adjacent = self.adjacent.astype(np.float32)
        joined = self.adjacent | (adjacent @ adjacent > 0) | np.outer(self.border, self.border)
        np.fill_diagonal(joined, False)
        return joined

    def mean(self, pixels: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " N"]:
        """Average values of pixels over each superpixel."""
        return np.bincount(self.labels.ravel(), pixels.ravel()) / self.sizes


def rgb_to_lab(image: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Convert sRGB in [0, 1] to CIELAB under D65, lightness from 0 to 100."""
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T.astype(image.dtype)
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def slic(lab: Float[np.ndarray, "H W 3"], iterations: int = 5) -> Int[np.ndarray, "H W"]:
    """Group the pixels of an image in CIELAB by colour and place (SLIC, TPAMI 2012, Eq. 3).

    K-means from a grid of cells. A pixel chooses among the centres of its own cell and the eight
    around it, those that the authors' search window reaches. Superpixels need not be connected. All
    numbers from 0 occur.
    """
    height, width = lab.shape[:2]
    cell = max(1, round(math.sqrt(height * width / SUPERPIXELS)))
    rows, columns = -(-height // cell), -(-width // cell)
    margin = ((0, rows * cell - height), (0, columns * cell - width), (0, 0))
    padded = np.pad(lab.astype(np.float32), margin, mode="edge")
    place = np.indices(padded.shape[:2], np.float32) * np.float32(COMPACTNESS / cell)
    points = np.concatenate([padded, np.moveaxis(place, 0, -1)], axis=-1)
    # Pixels of one cell have the same candidates: [cells, pixels, 5] against [cells, 9, 5].
    points = points.reshape(rows, cell, columns, cell, 5).swapaxes(1, 2).reshape(-1, cell**2, 5)
    numbers = np.pad(np.arange(rows * columns).reshape(rows, columns), 1, constant_values=-1)
    windows = sliding_window_view(numbers, (3, 3))
    candidates = windows.reshape(rows * columns, 9)
    outside = np.where(candidates < 0, np.float32(np.inf), np.float32(0))
    coordinates = points.reshape(-1, 5).T
    centres = points.mean(axis=1)
    for _ in range(iterations):
        near = centres[candidates]
        # |p - c|^2 = |p|^2 - 2 p c + |c|^2, and the first is the same for all candidates
        squared = (near**2).sum(axis=-1) + outside
        distance = squared[:, None] - points @ (2 * near.swapaxes(1, 2))
        nearest = np.take_along_axis(candidates, distance.argmin(axis=-1), axis=1)
        chosen = nearest.ravel()
        sizes = np.bincount(chosen, minlength=len(centres))
        sums = [np.bincount(chosen, values, len(centres)) for values in coordinates]
        kept = sizes > 0
        centres[kept] = (np.stack(sums, axis=-1)[kept] / sizes[kept, None]).astype(np.float32)
    labels = nearest.reshape(rows, columns, cell, cell).swapaxes(1, 2)
    labels = labels.reshape(rows * cell, columns * cell)[:height, :width]
    used = np.bincount(labels.ravel()) > 0
    return (np.cumsum(used) - 1)[labels]


def describe(labels: Int[np.ndarray, "H W"], lab: Float[np.ndarray, "H W 3"]) -> Superpixels:
    """Measure superpixels, all of whose numbers from 0 occur, and find which of them touch."""
    flat = labels.ravel()
    sizes = np.bincount(flat)
    rows, columns = np.indices(labels.shape) / max(labels.shape)
    *color, row, column = (
        np.bincount(flat, values.ravel()) / sizes
        for values in (*np.moveaxis(lab, -1, 0), rows, columns)
    )
    sides = np.zeros((4, len(sizes)), bool)
    for side, edge in zip(sides, (labels[0], labels[-1], labels[:, 0], labels[:, -1]), strict=True):
        side[edge] = True
    center = np.stack([row, column], axis=-1)
    return Superpixels(labels, sizes, np.stack(color, axis=-1), center, sides, touching(labels))


def touching(labels: Int[np.ndarray, "H W"]) -> Edges:
    """Find the pairs of superpixels that touch, and how many pixels long their edges are."""
    count = int(labels.max()) + 1
    one = np.concatenate([labels[1:].ravel(), labels[:, 1:].ravel()])
    other = np.concatenate([labels[:-1].ravel(), labels[:, :-1].ravel()])
    low, high = np.minimum(one, other), np.maximum(one, other)
    pairs, length = np.unique((low * count + high)[low < high], return_counts=True)
    return pairs // count, pairs % count, length
