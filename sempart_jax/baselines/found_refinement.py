"""Masks on patches brought to the borders of the image: targets of FOUND's decoder.

FOUND (arXiv 2212.07834, Sec. 3.2 and 3.3) refines its decoder's masks, and the complement of its
background, by the bilateral solver, and trains the decoder to give the refined ones. All of it runs
on the host, in NumPy and SciPy.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import binary_fill_holes, zoom

from sempart_jax.baselines.bilateral import bilateral_solver


def refine_patch_masks(
    images: UInt8[np.ndarray, "B H W 3"], masks: Bool[np.ndarray, "B h w"]
) -> Bool[np.ndarray, "B h w"]:
    """Refine binary masks on patches by the colours of their images.

    A mask is brought to the image's size, smoothed by the bilateral solver with sigmas of 16, 16
    and 8, its holes filled, and brought back to patches, where any foreground makes a patch
    foreground. A refinement whose IoU with the mask is 0.5 or less has gone astray: the mask then
    stays as it is, and so does an empty one.

    The released code drops the largest region of the refined mask, background or not. A foreground
    larger than the background is thereby swapped with it, and then fails the overlap test. Here a
    large foreground keeps its refinement like any other.

    Args:
        images: RGB uint8 ``[B, H, W, 3]``.
        masks: masks on their patches ``[B, h, w]``, True on foreground.

    Returns:
        Refined masks ``[B, h, w]``.

    Raises:
        ValueError: if there is not one mask an image, or as :func:`bilateral_solver` raises.
    """
    if len(images) != len(masks):
        raise ValueError(f"there must be one mask an image, got {len(masks)} for {len(images)}")
    refined = [_refine(image, mask) for image, mask in zip(images, masks, strict=True)]
    return np.stack(refined) if refined else masks.copy()


def _refine(
    image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    enlarged = _resize(mask, image.shape[:2])
    solved = bilateral_solver(image, enlarged, sigma_spatial=16, sigma_luma=16, sigma_chroma=8)
    binary = binary_fill_holes(solved > 0.5)
    coarse = enlarged > 0.5
    # |A and B| / |A or B| > 1/2, and 0 / 0 is not
    overlap, union = np.count_nonzero(coarse & binary), np.count_nonzero(coarse | binary)
    return _resize(binary, mask.shape) > 0 if 2 * overlap > union else mask


def _resize(mask: Bool[np.ndarray, "h w"], shape: tuple[int, ...]) -> np.ndarray:
    """Resize bilinearly, no antialiasing, as :func:`sempart_jax.kernels.resize.resize_bilinear`."""
    # Float64: on patches of 8 pixels its sums are exact, and so are comparisons with thresholds.
    factors = [wanted / side for wanted, side in zip(shape, mask.shape, strict=True)]
    return zoom(mask.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
