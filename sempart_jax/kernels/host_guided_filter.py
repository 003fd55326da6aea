"""The guided filter for masks of any size on the host: exact, in bounded memory, uncompiled."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

_PAPER_RADIUS, _PAPER_SIDE = 9, 320
_ROUNDING = 1e-3
_TILE_SIDE = 1024


def guided_radius(height: int, width: int) -> int:
    """Scale the radius of trick 1 to an image of any size.

    The paper filters masks of 320x320 pixels with a radius of 9 (two tricks, Sec. 5.1). The window
    that spans the same part of a larger or smaller picture has ``9 / 320`` of its short side.

    Args:
        height: image height in pixels.
        width: image width in pixels.

    Returns:
        Radius in pixels, 1 or more.

    Raises:
        ValueError: if the image has no pixels.
    """
    if min(height, width) < 1:
        raise ValueError(f"an image has at least one pixel, got {height}x{width}")
    return max(1, round(_PAPER_RADIUS * min(height, width) / _PAPER_SIDE))


def guided(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    *,
    radius: int | None = None,
    eps: float = 1e-3,
) -> Float[np.ndarray, "H W"]:
    """Sharpen a mask along the edges of the grey image (two tricks, Sec. 5.1).

    What :func:`sempart_jax.two_tricks.filters.guided_filter` gives for the guide
    :func:`sempart_jax.two_tricks.filters.grey_guide`, for one image of any size on the host:
    window sums are running sums in float64, which take the same time for every radius and are
    nearer to the exact result than those in float32. Images of more than about a megapixel are
    filtered in tiles, so that memory stays bounded.

    Args:
        image: RGB uint8 ``[H, W, 3]``, whose mean of R, G and B in [0, 1] is the guide.
        mask: soft mask ``[H, W]``.
        radius: half the window's side in pixels; by default
            :func:`guided_radius` of the image.
        eps: variance of the guide under which a window counts as flat and is smoothed.

    Returns:
        Filtered mask, float32 ``[H, W]``, not clipped: it may leave [0, 1] by a little next to
        strong edges.

    Raises:
        ValueError: if ``radius`` is negative, ``eps`` not positive, or image or mask is not as
            :func:`check_mask` wants it.
    """
    check_mask(image, mask)
    height, width = mask.shape
    if radius is None:
        radius = guided_radius(height, width)
    if radius < 0:
        raise ValueError(f"radius must be 0 or more pixels, got {radius}")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")
    filtered = np.empty(mask.shape, np.float32)
    for rows, rows_around in _tiles(height, radius):
        for columns, columns_around in _tiles(width, radius):
            tile = _filter_tile(
                image[rows_around, columns_around], mask[rows_around, columns_around], radius, eps
            )
            top, left = rows.start - rows_around.start, columns.start - columns_around.start
            filtered[rows, columns] = tile[
                top : top + rows.stop - rows.start, left : left + columns.stop - columns.start
            ]
    return filtered


def _tiles(size: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Cut an axis into near-equal tiles: what each fills, and what it has to see for that.

    A mean of window means reaches two radii far. Tiles of large windows are larger, so that what
    they see and do not fill stays a part of the work.
    """
    count = math.ceil(size / max(_TILE_SIDE, 6 * radius))
    borders = [size * index // count for index in range(count + 1)]
    for start, stop in itertools.pairwise(borders):
        yield slice(start, stop), slice(max(start - 2 * radius, 0), min(stop + 2 * radius, size))


def _filter_tile(
    image: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"], radius: int, eps: float
) -> Float[np.ndarray, "H W"]:
    """Guided filter of a whole array in float64."""
    from scipy.ndimage import uniform_filter1d

    # A window that covers the whole axis from every position need not be wider.
    widths = [2 * min(radius, size - 1) + 1 for size in mask.shape]
    # The filter divides by the window's width where it should by the number of pixels inside.
    row_share, column_share = (
        uniform_filter1d(np.ones(size), width, mode="constant")
        for size, width in zip(mask.shape, widths, strict=True)
    )
    inverse_share = 1.0 / np.outer(row_share, column_share)

    def window_mean(x: np.ndarray) -> np.ndarray:
        mean = uniform_filter1d(x, widths[0], axis=0, mode="constant")
        uniform_filter1d(mean, widths[1], axis=1, mode="constant", output=mean)
        mean *= inverse_share
        return mean

    # The guide I and the mask p
    guide = image[..., 0].astype(np.float64)
    guide += image[..., 1]
    guide += image[..., 2]
    guide /= 3 * 255
    source = mask.astype(np.float64)
    guide_mean, mean = window_mean(guide), window_mean(source)
    # a = cov(I, p) / (var(I) + eps),  b = mean(p) - a mean(I)
    source *= guide
    slope = window_mean(source)
    slope -= guide_mean * mean
    variance = window_mean(guide * guide)
    variance -= guide_mean * guide_mean
    variance += eps
    slope /= variance
    guide_mean *= slope
    mean -= guide_mean
    # q = mean(a) I + mean(b)
    guide *= window_mean(slope)
    guide += window_mean(mean)
    return guide


def check_mask(image: np.ndarray, mask: np.ndarray) -> None:
    """Refuse what is no image and soft mask of one size.

    Raises:
        ValueError: if ``image`` is no uint8 ``[H, W, 3]`` of at least one pixel, or ``mask`` is not
            float, has another height or width, or leaves [0, 1] by more than rounding.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            "image must be RGB uint8 of shape (height, width, 3) with at least one pixel, "
            f"got {image.dtype} of shape {image.shape}"
        )
    if mask.shape != image.shape[:2] or not np.issubdtype(mask.dtype, np.floating):
        raise ValueError(
            "mask must be float of the image's height and width, got "
            f"{mask.dtype} of shape {mask.shape} for an image of shape {image.shape}"
        )
    low, high = mask.min(), mask.max()
    # Comparisons with NaN are false.
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(
            f"mask has values from {low} to {high}, but masks must lie in [0, 1]: divide 8-bit "
            "masks by 255, and look for the cause of NaN"
        )
