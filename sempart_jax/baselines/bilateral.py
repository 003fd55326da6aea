"""Fast bilateral solver: smooths a finished mask within regions of one colour (arXiv 1511.03296).

TokenCut, FOUND, MOVE and Sempart report scores with and without it. It runs on the host, one image
at a time, and is no part of training.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import sparse

_YUV_SCALE = 1_000_000
# Full-range YCbCr (ITU-T T.871) in millionths. In integers a grey pixel has a chroma of exactly
# 128; in floats it falls on either side of that, which is a cell boundary for common sigmas.
_RGB_TO_YUV = (
    (299_000, 587_000, 114_000),
    (-168_736, -331_264, 500_000),
    (500_000, -418_688, -81_312),
)
_YUV_OFFSET = (0, 128 * _YUV_SCALE, 128 * _YUV_SCALE)
_DIMENSIONS = 5


@dataclass(frozen=True)
class BilateralGrid:
    """Occupied cells ("vertices") of a grid over x, y, luma and two chromas.

    Attributes:
        vertex_of_pixel: index of each pixel's vertex, ``[H, W]`` in ``[0, V)``.
        blur: symmetric ``[V, V]`` sparse matrix of the filter [1 2 1] along each of the five axes,
            summed: 10 on the diagonal, 1 between neighbours.
    """

    vertex_of_pixel: np.ndarray
    blur: sparse.csr_array

    def splat(self, pixels: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " V"]:
        """Sum over the pixels of each vertex, ``[H, W]`` -> ``[V]``; the transpose of `slice`."""
        return np.bincount(
            self.vertex_of_pixel.ravel(), weights=pixels.ravel(), minlength=self.blur.shape[0]
        )

    def slice(self, vertices: Float[np.ndarray, " V"]) -> Float[np.ndarray, "H W"]:
        """Give each pixel the value of its vertex, ``[V]`` -> ``[H, W]``."""
        return vertices[self.vertex_of_pixel]


def bilateral_grid(
    image: UInt8[np.ndarray, "H W 3"],
    sigma_spatial: int | float = 24,
    sigma_luma: int | float = 4,
    sigma_chroma: int | float = 4,
) -> BilateralGrid:
    """Put the pixels of an RGB image into the cells of the simplified bilateral grid.

    Simplified: a pixel belongs to one vertex instead of being shared among several. See
    :func:`bilateral_solver` for the arguments.

    Raises:
        ValueError: if ``image`` is no uint8 ``[H, W, 3]`` of at least one pixel, a sigma is not
            positive, or the sigmas are so small that cells cannot be numbered in 64 bits.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            "image must be RGB uint8 of shape (height, width, 3) with at least one pixel, "
            f"got {image.dtype} of shape {image.shape}"
        )
    sigmas = {"spatial": sigma_spatial, "luma": sigma_luma, "chroma": sigma_chroma}
    for name, sigma in sigmas.items():
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma_{name} must be positive, got {sigma}")
    height, width = image.shape[:2]
    cells = [
        np.floor(np.arange(width)[None, :] / sigma_spatial),
        np.floor(np.arange(height)[:, None] / sigma_spatial),
    ]
    # Whole numbers are exact in float64.
    red, green, blue = image.astype(np.float64).transpose(2, 0, 1)
    for weights, offset, sigma in zip(
        _RGB_TO_YUV, _YUV_OFFSET, (sigma_luma, sigma_chroma, sigma_chroma), strict=True
    ):
        millionths = weights[0] * red + weights[1] * green + weights[2] * blue + offset
        cells.append(np.floor(millionths / _YUV_SCALE / sigma))
    # One cell beyond the last of each axis stays empty, so that a step of +1 never lands on a
    # vertex at the other end of the next row.
    extents = [int(cell.max()) + 2 for cell in cells]
    if math.prod(extents) > np.iinfo(np.int64).max:
        raise ValueError(
            f"a grid of {extents} cells is too large to number: raise the smallest of "
            f"sigma_spatial {sigma_spatial}, sigma_luma {sigma_luma}, sigma_chroma {sigma_chroma}"
        )
    strides = np.cumprod([1, *extents[:-1]])
    keys = sum(cell.astype(np.int64) * stride for cell, stride in zip(cells, strides, strict=True))
    vertex_keys, vertex_of_pixel = np.unique(keys, return_inverse=True)
    return BilateralGrid(vertex_of_pixel.reshape(height, width), _blur(vertex_keys, strides))


def _blur(vertex_keys: np.ndarray, strides: np.ndarray) -> sparse.csr_array:
    """Blur between vertices with ascending ``vertex_keys``, one step along an axis a stride."""
    count = len(vertex_keys)
    vertices = np.arange(count)
    lower, upper = [], []
    for stride in strides:
        wanted = vertex_keys + stride
        found = np.minimum(np.searchsorted(vertex_keys, wanted), count - 1)
        occupied = np.flatnonzero(vertex_keys[found] == wanted)
        lower.append(occupied)
        upper.append(found[occupied])
    # B = sum over axes of (2 I + next + previous)
    rows = np.concatenate([*lower, *upper, vertices])
    columns = np.concatenate([*upper, *lower, vertices])
    weights = np.ones(len(rows))
    weights[-count:] = 2 * _DIMENSIONS
    return sparse.csr_array((weights, (rows, columns)), shape=(count, count))


def bistochastize(
    grid: BilateralGrid, iterations: int = 10
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Scale the blur so that each vertex keeps its mass (Barron and Poole, arXiv 1511.03296).

    Returns:
        ``scale`` and ``mass``: ``diag(scale) B diag(scale)`` has the row sums ``mass`` to
        rounding, and ``mass`` comes near each vertex's number of pixels.
    """
    mass = grid.splat(np.ones(grid.vertex_of_pixel.shape))
    scale = np.ones_like(mass)
    for _ in range(iterations):
        # n <- sqrt(n * m / (B n))
        scale = np.sqrt(scale * mass / (grid.blur @ scale))
    # The row sums themselves, not the pixel counts: so a constant is exactly smooth.
    return scale, scale * (grid.blur @ scale)


def bilateral_solver(
    image: UInt8[np.ndarray, "H W 3"],
    target: Float[np.ndarray, "H W"] | Bool[np.ndarray, "H W"],
    sigma_spatial: int | float = 24,
    sigma_luma: int | float = 4,
    sigma_chroma: int | float = 4,
    *,
    smoothness: int | float = 256,
    confidence: int | float = 0.999,
    bistochastic_iterations: int = 10,
    min_diagonal: int | float = 1e-5,
    tolerance: int | float = 1e-5,
    max_iterations: int = 25,
) -> Float[np.ndarray, "H W"]:
    """Smooth a mask within regions of similar colour, with edges where the image has them.

    Minimises, over masks that are constant on each vertex of the bilateral grid, the squared
    distance to ``target`` plus ``smoothness`` times squared differences between neighbouring
    vertices (Barron and Poole, arXiv 1511.03296). The defaults are those of Sempart's published
    masks; TokenCut, MOVE and FOUND use sigmas of 16, 16 and 8. On photographs the conjugate
    gradients stop at ``max_iterations`` with a relative residual of about 0.02: published scores
    are those of 25 steps, not of the minimum.

    Args:
        image: RGB uint8 ``[H, W, 3]``.
        target: mask to smooth, ``[H, W]`` in [0, 1], float or boolean.
        sigma_spatial: side of a grid cell in pixels.
        sigma_luma: side of a grid cell in luma, in grey levels of 255.
        sigma_chroma: side of a grid cell in each chroma, in levels of 255.
        smoothness: weight lambda of the smoothness term.
        confidence: weight of every pixel of ``target``.
        bistochastic_iterations: refinements of the scales, see :func:`bistochastize`.
        min_diagonal: least value of the diagonal that the preconditioner divides by; above
            ``confidence`` it starts to act.
        tolerance: conjugate gradients stop at this residual relative to the right-hand side.
        max_iterations: most steps of conjugate gradients.

    Returns:
        Smoothed mask, float64 ``[H, W]``, not clipped: it may leave [0, 1] by a little where the
        conjugate gradients have not converged.

    Raises:
        ValueError: if ``image`` or a sigma is not as :func:`bilateral_grid` wants it, ``target`` is
            neither float nor boolean, has another height or width or is not finite, or
            ``confidence`` is not positive or ``smoothness`` negative.
    """
    if target.shape != image.shape[:2] or not (
        np.issubdtype(target.dtype, np.floating) or target.dtype == bool
    ):
        raise ValueError(
            "target must be a float or boolean mask of the image's height and width, got "
            f"{target.dtype} of shape {target.shape} for an image of shape {image.shape}"
        )
    if not np.all(np.isfinite(target)):
        raise ValueError("target holds NaN or infinity: mend the mask before smoothing it")
    if not confidence > 0:
        raise ValueError(f"confidence must be positive, got {confidence}")
    if not smoothness >= 0:
        raise ValueError(f"smoothness must not be negative, got {smoothness}")
    grid = bilateral_grid(image, sigma_spatial, sigma_luma, sigma_chroma)
    scale, mass = bistochastize(grid, bistochastic_iterations)
    weights = grid.splat(np.full(target.shape, confidence, np.float64))
    # A = lambda (D_m - D_n B D_n) + diag(S c),  b = S (c t),  with S the splat
    matrix = grid.blur.copy()
    matrix.data *= -smoothness * np.repeat(scale, np.diff(matrix.indptr)) * scale[matrix.indices]
    matrix.setdiag(matrix.diagonal() + (smoothness * mass + weights))
    right_hand_side = grid.splat(confidence * target.astype(np.float64))
    preconditioner = 1.0 / np.maximum(matrix.diagonal(), min_diagonal)
    start = right_hand_side / weights
    return grid.slice(
        _conjugate_gradients(
            matrix, right_hand_side, start, preconditioner, tolerance, max_iterations
        )
    )


def _conjugate_gradients(
    matrix: sparse.csr_array,
    right_hand_side: Float[np.ndarray, " V"],
    start: Float[np.ndarray, " V"],
    preconditioner: Float[np.ndarray, " V"],
    tolerance: int | float,
    max_iterations: int,
) -> Float[np.ndarray, " V"]:
    """Solve a symmetric positive definite system, or stop early, which is part of the method.

    SciPy's own takes dot products with BLAS, whose threads wait for one another actively: on cores
    that are shared, with other threads of this program or with other programs, that took several
    times as long as all the rest. ``tolerance`` is relative to the right-hand side.
    """

    def dot(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.sum(first * second))

    solution = start
    residual = right_hand_side - matrix @ solution
    goal = tolerance**2 * dot(right_hand_side, right_hand_side)
    direction = np.zeros_like(solution)
    last_energy = 1.0
    for _ in range(max_iterations):
        if dot(residual, residual) <= goal:
            break
        # z = M r,  d <- z + (r . z) / (r' . z') d  with r' and z' those of the last step
        scaled = preconditioner * residual
        energy = dot(residual, scaled)
        direction = scaled + energy / last_energy * direction
        # x <- x + s d,  r <- r - s A d  with s = r . z / (d . A d)
        image_of_direction = matrix @ direction
        step = energy / dot(direction, image_of_direction)
        solution = solution + step * direction
        residual = residual - step * image_of_direction
        last_energy = energy
    return solution
