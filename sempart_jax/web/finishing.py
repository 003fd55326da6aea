"""From a picture and the network's mask to what the page shows and gives away."""

import numpy as np
from jaxtyping import Float, UInt8

from sempart_jax.data.image_sizes import resize
from sempart_jax.kernels.host_guided_filter import guided
from sempart_jax.predict.pictures import choose_side
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.segmentation.drawing import opacity

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
    """Choose the foreground of a predicted mask and refine it.

    Args:
        image: RGB.
        mask: what the network predicts, in [0, 1].
        refine: ``guided`` or another key of ``sempart_jax.predict.postprocessing.POSTPROCESSINGS``.
        radius: of the guided filter, in pixels of the picture; scaled with the picture if None.
        eps: of the guided filter.
        invert: see ``sempart_jax.predict.pictures.choose_side``.

    Returns:
        The mask with its foreground chosen, and the same refined, both in [0, 1].

    Raises:
        ValueError: if a name is unknown or a number out of range.
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
    """Make the ground of a picture transparent.

    Args:
        image: RGB.
        mask: in [0, 1].
        threshold: mask above which a pixel is opaque; ``None`` keeps soft edges, the mask is then
            the opacity.
        source_alpha: alpha channel of the picture itself, above which the cut-out's never is.

    Returns:
        RGBA, alpha not premultiplied. Pixels that cannot be seen are black: whoever gets the
        cut-out does not get what was cut away.
    """
    alpha = mask if threshold is None else (mask > threshold).astype(np.float32)
    levels = opacity(alpha, source_alpha)[..., None]
    return np.concatenate([np.where(levels > 0, image, np.uint8(0)), levels], axis=-1)


def preview(picture: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "h w *C"]:
    """Shrink a picture to :data:`PREVIEW_SIDE` where it is larger."""
    height, width = picture.shape[:2]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    return resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))
