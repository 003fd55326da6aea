"""From a picture and the network's mask to what the page shows and gives away."""

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.data.image_sizes import shrink
from sempart_jax.kernels.host_guided_filter import guided
from sempart_jax.predict.pictures import choose_side
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.segmentation.drawing import cutout

PREVIEW_SIDE = 1024
"""Longer side in pixels, at most, of what is shown; what is downloaded keeps the picture's size."""


def finish_mask(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    *,
    refine: str = "guided",
    radius: int | None = None,
    eps: float = 1e-3,
    invert: str = "auto",
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Choose the foreground of a predicted mask, and refine it; both are returned.

    ``radius`` and ``eps`` are those of the guided filter, the first in pixels of the picture, and
    scaled with the picture if None.
    """
    soft = choose_side(mask, invert)
    if refine == "guided":
        return soft, np.clip(guided(image, soft, radius=radius, eps=eps), 0.0, 1.0)
    return soft, postprocess(refine, image, soft)


def cut_out(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    threshold: float | None = None,
    source_alpha: UInt8[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """Make the ground of a picture transparent, as ``segmentation.drawing.cutout`` does.

    With a threshold, edges are hard. Pixels that cannot be seen are black: whoever gets the cut-out
    does not get what was cut away.
    """
    alpha = mask if threshold is None else (mask > threshold).astype(np.float32)
    picture = cutout(image, alpha, source_alpha)
    picture[picture[..., 3] == 0] = 0
    return picture


def preview(picture: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "h w *C"]:
    """Shrink a picture to :data:`PREVIEW_SIDE` where it is larger."""
    return shrink(picture, PREVIEW_SIDE)
