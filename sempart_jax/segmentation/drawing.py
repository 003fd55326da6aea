"""What people look at: overlay and cut-out of an image and its mask."""

import colorsys

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, UInt8
from PIL import Image

TINT = (255, 32, 140)
# Hues a golden section apart: of any few that follow each other, no two are alike.
COLOURS = np.array(
    [(0, 0, 0), TINT]
    + [
        [round(255 * c) for c in colorsys.hsv_to_rgb(0.92 + 0.618 * k, 0.87, 1)]
        for k in range(1, 255)
    ],
    np.uint8,
)
"""Colours ``[256, 3]`` of objects by their numbers; 0 is black, for the background."""

_STRENGTH = 0.42
_GROUND = 0.8
_BAND = 256


def eight_bits(mask: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Round a mask in [0, 1] to 0..255."""
    scaled = mask * np.float32(255)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    binary: Bool[np.ndarray, "H W"],
    rims: UInt8[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Tint the foreground of an image, dim the rest, and draw the mask's outline.

    The outline, of ``binary``, is white with a dark rim, so that it is seen on any ground, and as
    wide a part of the image at any size; it does not run along the image's border. The tint is as
    strong as the soft ``mask``. Objects with their soft ``rims`` are outlined and tinted each in a
    colour of its own; the foreground is one if None.
    """
    picture = np.empty_like(image)
    tint = np.array(TINT, np.float32)
    # In bands, or a large image would take twelve bytes a pixel and colour more.
    for start in range(0, len(image), _BAND):
        rows = slice(start, start + _BAND)
        soft = mask[rows, :, None]
        if rims is not None:
            tint = COLOURS[rims[rows]].astype(np.float32)
        tinted = np.float32(_STRENGTH) * tint + np.float32(1 - _STRENGTH) * image[rows]
        dimmed = np.float32(_GROUND) * image[rows]
        picture[rows] = np.rint(soft * tinted + (1 - soft) * dimmed)
    line = max(1, round(min(binary.shape) / 240))
    rim = max(1, line // 2)
    inner = binary & ~_shrunk(binary, line)
    if rims is not None:
        width = 2 * line + 1
        highest = scipy.ndimage.maximum_filter(rims, width)
        inner |= binary & (highest != scipy.ndimage.minimum_filter(rims, width))
    outer = _shrunk(~binary, rim)
    outer |= binary
    picture[~outer] = picture[~outer] // 3
    picture[inner] = 255
    return picture


def _shrunk(binary: Bool[np.ndarray, "H W"], pixels: int) -> Bool[np.ndarray, "H W"]:
    """Take a rim off a mask, but not at the image's border."""
    width = 2 * pixels + 1
    values = binary.view(np.uint8)
    return scipy.ndimage.minimum_filter(values, width, mode="nearest").view(bool)


def cutout(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    alpha: UInt8[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """Cut the foreground out: RGBA ``[H, W, 4]`` of an image and a soft mask in [0, 1].

    The colours are those of the image everywhere, not multiplied by alpha, so that soft edges blend
    into any ground without a dark fringe. Nothing is more opaque than in the image, whose own
    ``alpha`` is 0 where it is transparent.
    """
    levels = eight_bits(mask)
    levels = levels if alpha is None else np.minimum(levels, alpha)
    return np.concatenate([image, levels[..., None]], axis=-1)


def as_file(pixels: UInt8[np.ndarray, "H W *C"], profile: bytes | None) -> Image.Image:
    """Make a picture to save, whose colours are those of an ICC profile, or of sRGB if None."""
    picture = Image.fromarray(pixels)
    if profile is not None:
        picture.info["icc_profile"] = profile
    return picture


def index_file(labels: UInt8[np.ndarray, "H W"]) -> Image.Image:
    """Make an index picture to save, with :data:`COLOURS` as its palette."""
    picture = Image.fromarray(labels)
    picture.putpalette(COLOURS.tobytes())
    return picture
