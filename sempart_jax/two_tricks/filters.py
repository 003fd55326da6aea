"""Trick 1: the box filter and the guided filter that sharpens masks along image edges.

All functions of arrays take float arrays laid out as ``[..., H, W, C]`` with any number of leading
axes (none included), keep the dtype of floats of at least 32 bits and compute narrower floats in
float32, and can be jitted, vmapped and differentiated.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

_HEIGHT_AXIS, _WIDTH_AXIS = -3, -2


def _window_sum(x: Array, radius: int, axis: int) -> Array:
    """Sum ``2 * radius + 1`` neighbours along ``axis``; what lies beyond the border counts 0.

    Sums of 1, 2, 4, ... consecutive elements come from one another by a shift and an addition, and
    the window is put together from those that its width has in binary: O(log radius) additions a
    pixel. Unlike differences of one running sum along the axis, this subtracts nothing, so the
    error does not grow with the image, and it has no sequential scan.
    """
    size = x.shape[axis]
    # A window that covers the whole axis from every position need not be wider.
    radius = min(radius, size - 1)
    width = 2 * radius + 1
    padding = [(0, 0)] * x.ndim
    padding[axis] = (radius, radius)
    block = jnp.pad(x, padding)
    block_size, offset = 1, 0
    total = jnp.zeros_like(x)
    while True:
        if width & block_size:
            total = total + lax.slice_in_dim(block, offset, offset + size, axis=axis)
            offset += block_size
        if 2 * block_size > width:
            return total
        length = block.shape[axis]
        # sum over 2n elements from i = (sum over n from i) + (sum over n from i + n)
        block = lax.slice_in_dim(block, 0, length - block_size, axis=axis) + lax.slice_in_dim(
            block, block_size, length, axis=axis
        )
        block_size *= 2


def _window_counts(size: int, radius: int) -> np.ndarray:
    """Count the pixels of each window clipped at the border of an axis of ``size`` pixels."""
    index = np.arange(size)
    return np.minimum(index + radius, size - 1) - np.maximum(index - radius, 0) + 1


def _check_radius(radius: int) -> None:
    if radius < 0:
        raise ValueError(f"radius must be 0 or more pixels, got {radius}")


def _at_least_float32(x: Array) -> Array:
    # A float64 NumPy array becomes float32 here where JAX has no float64, without a warning.
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def box_filter(x: Float[Array, "*batch H W C"], radius: int) -> Float[Array, "*batch H W C"]:
    """Sum a square window around each pixel, clipped at the border.

    Args:
        x: array ``[..., H, W, C]``.
        radius: half the window's side in pixels; the window is ``2 * radius + 1`` wide.

    Returns:
        Window sums (not means), of the shape of ``x``.

    Raises:
        ValueError: if ``radius`` is negative.
    """
    _check_radius(radius)
    x = _at_least_float32(x)
    return _window_sum(_window_sum(x, radius, _HEIGHT_AXIS), radius, _WIDTH_AXIS)


def _solve_ridge(covariance: list[list[Array]], cross: list[Array], eps: float) -> list[Array]:
    """Solve ``(covariance + eps I) slope = cross`` per pixel for a 1x1 or 3x3 covariance.

    Written out as an LDL^T factorisation over whole images: a batched LAPACK call for each pixel's
    3x3 system is far slower, and the adjugate loses digits in windows that are nearly flat.

    Args:
        covariance: lower triangle by rows, ``covariance[i][j]`` for ``j <= i``, each ``[..., 1]``.
        cross: covariance of each guide channel with ``src``, each ``[..., C]``.
        eps: ridge.
    """
    size = len(cross)
    diagonal: list[Array] = []
    lower: list[list[Array]] = []
    for i in range(size):
        row: list[Array] = []
        for j in range(i):
            # L_ij = (A_ij - sum_k L_ik L_jk D_k) / D_j
            entry = covariance[i][j]
            for k in range(j):
                entry = entry - row[k] * lower[j][k] * diagonal[k]
            row.append(entry / diagonal[j])
        # D_i = A_ii + eps - sum_k L_ik^2 D_k
        pivot = covariance[i][i] + eps
        for k in range(i):
            pivot = pivot - row[k] * row[k] * diagonal[k]
        lower.append(row)
        diagonal.append(pivot)
    solution: list[Array] = []
    for i in range(size):
        value = cross[i]
        for k in range(i):
            value = value - lower[i][k] * solution[k]
        solution.append(value)
    solution = [value / pivot for value, pivot in zip(solution, diagonal, strict=True)]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            solution[i] = solution[i] - lower[k][i] * solution[k]
    return solution


def guided_filter(
    guide: Float[Array, "*batch H W G"],
    src: Float[Array, "*batch H W C"],
    radius: int = 9,
    eps: float = 1e-3,
) -> Float[Array, "*batch H W C"]:
    """Filter ``src`` so that its edges follow those of ``guide`` (He et al., TPAMI 2012).

    In each window the output is an affine function of the guide, fitted to ``src`` by ridge
    regression; a pixel takes the mean of the fits of all windows that hold it. Trick 1 guides with
    the grey image, see :func:`grey_guide` (two tricks, Sec. 5.1, arXiv 2404.03392); a guide of
    three channels gives the colour guided filter, which fits one slope a channel.

    The output is linear in ``src`` and may leave [0, 1] by a little next to strong edges: clip it
    where it is used as a mask.

    Args:
        guide: image ``[..., H, W, 1 or 3]`` in [0, 1].
        src: what is filtered, ``[..., H, W, C]``, channel by channel.
        radius: half the window's side in pixels.
        eps: variance of the guide under which a window counts as flat and is smoothed.

    Returns:
        Filtered ``src``, of its shape.

    Raises:
        ValueError: if ``radius`` is negative, ``eps`` not positive, the guide has neither 1 nor 3
            channels, or the two arrays differ in height, width or leading axes.
    """
    _check_radius(radius)
    if eps <= 0:
        raise ValueError(f"eps must be positive, got {eps}")
    if guide.shape[-1] not in (1, 3):
        raise ValueError(f"guide must have 1 or 3 channels last, got shape {guide.shape}")
    if guide.shape[:-1] != src.shape[:-1]:
        raise ValueError(
            f"guide {guide.shape} and src {src.shape} must agree in all axes but the last"
        )
    src = _at_least_float32(src)
    guide = jnp.asarray(guide).astype(src.dtype)
    height, width = src.shape[-3:-1]
    leading = (1,) * (src.ndim - 3)
    # Two vectors, since a whole image of them would be kept in the compiled program.
    rows = jnp.asarray(1.0 / _window_counts(height, radius), src.dtype)
    columns = jnp.asarray(1.0 / _window_counts(width, radius), src.dtype)

    def window_means(parts: list[Array]) -> list[Array]:
        # One image after the other: side by side as channels they would take twice the time.
        return [
            box_filter(part, radius)
            * rows.reshape(*leading, height, 1, 1)
            * columns.reshape(*leading, 1, width, 1)
            for part in parts
        ]

    inputs = jnp.split(guide, guide.shape[-1], axis=-1)
    pairs = [(i, j) for i in range(len(inputs)) for j in range(i + 1)]
    first_moments = [*inputs, src]
    second_moments = [inputs[i] * inputs[j] for i, j in pairs] + [x * src for x in inputs]
    means = window_means(first_moments + second_moments)
    guide_means, src_mean = means[: len(inputs)], means[len(inputs)]
    pair_means = means[len(first_moments) : len(first_moments) + len(pairs)]
    src_cross_means = means[len(first_moments) + len(pairs) :]
    # cov(I_i, I_j) = mean(I_i I_j) - mean(I_i) mean(I_j)
    covariance: list[list[Array]] = [[] for _ in inputs]
    for (i, j), pair_mean in zip(pairs, pair_means, strict=True):
        covariance[i].append(pair_mean - guide_means[i] * guide_means[j])
    cross = [
        cross_mean - guide_mean * src_mean
        for guide_mean, cross_mean in zip(guide_means, src_cross_means, strict=True)
    ]
    # a = (cov(I, I) + eps)^-1 cov(I, p),  b = mean(p) - a . mean(I)
    slopes = _solve_ridge(covariance, cross, eps)
    intercept = src_mean
    for slope, guide_mean in zip(slopes, guide_means, strict=True):
        intercept = intercept - slope * guide_mean
    # q = mean(a) . I + mean(b)
    *slope_means, filtered = window_means([*slopes, intercept])
    for slope_mean, channel in zip(slope_means, inputs, strict=True):
        filtered = filtered + slope_mean * channel
    return filtered


def grey_guide(image: Float[Array, "*batch H W 3"]) -> Float[Array, "*batch H W 1"]:
    """Mean of R, G and B: the guide of trick 1 (two tricks, Sec. 5.1).

    Args:
        image: RGB ``[..., H, W, 3]`` in [0, 1].

    Returns:
        Grey image ``[..., H, W, 1]`` in [0, 1].
    """
    return jnp.mean(_at_least_float32(image), axis=-1, keepdims=True)
