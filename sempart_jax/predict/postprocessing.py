"""Post-processing of a finished mask at the size of its image, on the host.

Papers report masks as the network gives them, sharpened by the guided filter (trick 1), and
smoothed by the bilateral solver with two settings. Images of a data set differ in size, so nothing
here is compiled for a shape, nor does it take memory or time on the accelerator. The guided filter
gains from threads, one for each core; the bilateral solver does not, SciPy's sparse products hold
the interpreter's lock. Each imports what it computes with when it is called: command lines ask for
the names alone.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.host_guided_filter import check_mask, guided

BILATERAL_PIXELS = 12_000_000
"""The bilateral solver takes 100 bytes a pixel; it sees larger images reduced to so many."""


def _bilateral(
    sigma_spatial: int, sigma_luma: int, sigma_chroma: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def solve(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        from sempart_jax.baselines.bilateral import bilateral_solver

        reduced = _reduced_size(*mask.shape)
        solved = bilateral_solver(
            resize(image, *reduced),
            np.clip(resize(mask.astype(np.float32), *reduced), 0.0, 1.0),
            sigma_spatial=sigma_spatial,
            sigma_luma=sigma_luma,
            sigma_chroma=sigma_chroma,
        )
        return resize(solved.astype(np.float32), *mask.shape)

    return solve


def _reduced_size(height: int, width: int) -> tuple[int, int]:
    """Bring a size to :data:`BILATERAL_PIXELS` where it has more."""
    scale = min(1.0, math.sqrt(BILATERAL_PIXELS / (height * width)))
    return max(1, int(height * scale)), max(1, int(width * scale))


def _unchanged(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    del image
    return mask


POSTPROCESSINGS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "none": _unchanged,
        "guided": guided,
        "bilateral": _bilateral(24, 4, 4),
        "bilateral_16_16_8": _bilateral(16, 16, 8),
    }
)
"""What can be done to a mask, by the name that tables and command lines use.

``bilateral`` has the sigmas (spatial, luma, chroma) of the released code of two tricks and Sempart,
``bilateral_16_16_8`` those of TokenCut, MOVE and FOUND."""


def postprocess(
    name: str, image: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Refine the mask of one image by a key of :data:`POSTPROCESSINGS`.

    Returns:
        Refined mask, float32, clipped to [0, 1]; a new array.

    Raises:
        ValueError: if there is no post-processing of that name, ``image`` is no uint8
            ``[H, W, 3]`` of at least one pixel, or ``mask`` is not float, has another height or
            width, or leaves [0, 1] by more than rounding.
    """
    if name not in POSTPROCESSINGS:
        raise ValueError(
            f"there is no post-processing {name!r}: choose from {', '.join(POSTPROCESSINGS)}"
        )
    check_mask(image, mask)
    return np.clip(POSTPROCESSINGS[name](image, mask), 0.0, 1.0).astype(np.float32, copy=False)
