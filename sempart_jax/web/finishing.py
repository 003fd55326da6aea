"""From a picture and the network's mask to all that the page shows and gives away."""

import dataclasses
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sempart_jax.data.image_sizes import resize
from sempart_jax.data.synthetic import synthetic_scene
from sempart_jax.predict.pictures import choose_side
from sempart_jax.predict.postprocessing import guided, postprocess
from sempart_jax.segmentation.drawing import eight_bits

PREVIEW_SIDE = 1024
"""Longer side in pixels, at most, of what is shown; what is downloaded keeps the picture's size."""

_CHECKERS = 32
_CHECKER_GREYS = (255, 214)


@dataclasses.dataclass(frozen=True)
class Finish:
    """What is done to the network's mask after it was predicted.

    Attributes:
        refine: ``guided`` or another key of ``sempart_jax.predict.postprocessing.POSTPROCESSINGS``.
        radius: of the guided filter, in pixels of the picture; scaled with the picture if None.
        eps: of the guided filter.
        invert: see ``sempart_jax.predict.pictures.choose_side``.
        threshold: mask above which a pixel belongs to the cut-out; ``None`` keeps soft edges, the
            mask is then the cut-out's opacity.
    """

    refine: str = "guided"
    radius: int | None = None
    eps: float = 1e-3
    invert: str = "auto"
    threshold: float | None = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Finished:
    """Masks of one picture ``[H, W]`` in [0, 1], 1 is foreground.

    Attributes:
        soft: what the network predicts, with its foreground chosen.
        refined: the same after post-processing.
        threshold: see :class:`Finish`.
    """

    soft: Float[np.ndarray, "H W"]
    refined: Float[np.ndarray, "H W"]
    threshold: float | None


def finish_mask(
    image: UInt8[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"], finish: Finish
) -> Finished:
    """Choose the foreground of a predicted mask and refine it.

    Args:
        image: RGB.
        mask: what the network predicts, in [0, 1].
        finish: what is wanted.

    Raises:
        ValueError: if a name is unknown or a number out of range.
    """
    soft = choose_side(mask, finish.invert)
    if finish.refine == "guided":
        filtered = guided(image, soft, radius=finish.radius, eps=finish.eps)
        refined = np.clip(filtered, 0.0, 1.0)
    else:
        refined = postprocess(finish.refine, image, soft)
    return Finished(soft, refined, finish.threshold)


def cut_out(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    threshold: float | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """Make the ground of a picture transparent.

    Args:
        image: RGB.
        mask: in [0, 1].
        threshold: see :class:`Finish`.

    Returns:
        RGBA, alpha not premultiplied. Pixels that cannot be seen are black: whoever gets the
        cut-out does not get what was cut away.
    """
    alpha = mask if threshold is None else (mask > threshold).astype(np.float32)
    levels = eight_bits(alpha)[..., None]
    return np.concatenate([np.where(levels > 0, image, np.uint8(0)), levels], axis=-1)


def preview(picture: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "h w *C"]:
    """Shrink a picture to :data:`PREVIEW_SIDE` where it is larger."""
    height, width = picture.shape[:2]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    return resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))


def on_checkerboard(picture: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a cut-out over the light and dark squares that stand for transparency.

    Args:
        picture: RGBA.

    Returns:
        RGB.
    """
    # As many squares to a large picture as to a small one: the page shows both at one size.
    side = max(1, max(picture.shape[:2]) // _CHECKERS)
    rows, columns = np.indices(picture.shape[:2]) // side
    light, dark = _CHECKER_GREYS
    board = np.where((rows + columns) % 2 == 0, light, dark)[..., None]
    alpha = picture[..., 3:].astype(np.float32) / 255
    # C = alpha F + (1 - alpha) B
    mixed = alpha * picture[..., :3] + (1 - alpha) * board.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def encode_png(picture: UInt8[np.ndarray, "H W *C"]) -> bytes:
    """Encode grey ``[H, W]``, RGB or RGBA."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def example_scenes(count: int, size: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Draw made-up scenes for those who have no picture at hand; always the same ones.

    Args:
        count: number of scenes.
        size: side in pixels, at least 32.
    """
    return [synthetic_scene(np.random.default_rng([7, index]), size)[0] for index in range(count)]
