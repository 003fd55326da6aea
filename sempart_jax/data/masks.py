"""Mask pictures in the encodings that people store them in, to grey levels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Real, UInt8
from PIL import Image

from sempart_jax.host.shown_names import shorten

FEW_LEVELS = 32
"""Fewer levels than this, none of them between half and full, may as well be numbers of classes."""

TWO_VALUES = "of its two values, the larger is taken for foreground"
TWO_COLOURS = "of its two colours, the brighter is taken for foreground"
ONE_COLOUR = "the only one of its colour channels that varies is taken for the mask"
ALPHA = "its transparency is taken for the mask, as its colour is the same everywhere"
LABELS = (
    "its palette is taken for labels: black, or else index 0, is background, so is the border of "
    "objects (index 255 of VOC), and all others are foreground"
)

_ROUNDING = 8
"""Difference of the channels of a grey picture that was compressed in colour."""
_VOID = 255
"""Index of the border of objects in the palette images of PASCAL VOC."""


class MaskLevels(NamedTuple):
    """What a mask picture says.

    Attributes:
        levels: uint8 ``[H, W]``; 0 is background, 255 is foreground.
        assumed: what was taken for granted, in words; empty for a plain grey mask.
    """

    levels: UInt8[np.ndarray, "H W"]
    assumed: str = ""


def mask_levels(image: Image.Image) -> MaskLevels:
    """Read a mask, however it is encoded.

    Two values are background and foreground, whatever they are. More are levels over the whole
    range of their type (255, 65535, or 1.0 where they are floating-point), also as a grey palette
    or in one colour. Coloured palettes are labels, by their indices. Transparency is the mask where
    the colour is the same everywhere.

    Args:
        image: loaded, in any mode.

    Returns:
        Its levels, and what was assumed.

    Raises:
        ValueError: the picture may mean several things, or is no mask; says why.
    """
    if image.mode not in ("LA", "PA", "RGBA") and not (
        image.mode == "P" and "transparency" in image.info
    ):
        return _opaque_levels(image)
    rgba = image.convert("RGBA")
    alpha, colours = np.asarray(rgba.getchannel("A")), rgba.convert("RGB")
    opaque = image if image.mode == "P" else colours
    if alpha.min() == alpha.max():
        return _opaque_levels(opaque)
    if colours.getcolors(1) is not None:
        return MaskLevels(_number_levels(alpha, 255).levels, ALPHA)
    if image.mode == "P":
        return _palette_levels(image)
    read = _opaque_levels(opaque)
    if not np.array_equal(read.levels > 127, alpha > 127):
        raise ValueError("its colours and its transparency are two different masks")
    return read


def _opaque_levels(image: Image.Image) -> MaskLevels:
    if image.mode == "P":
        return _palette_levels(image)
    if image.mode in ("1", "L"):
        return _number_levels(np.asarray(image.convert("L")), 255)
    if image.mode == "F":
        return _number_levels(np.asarray(image), 1)
    if image.mode.startswith("I"):
        return _number_levels(np.asarray(image), 65535)
    return _colour_levels(image.convert("RGB"))


def _number_levels(values: Real[np.ndarray, "H W"], full: int) -> MaskLevels:
    """Read numbers, of which ``full`` is the largest that their type is meant to hold."""
    low, high = values.min(), values.max()
    foreground = values == high
    if low == high:
        if low not in (0, full):
            raise ValueError(f"all of its pixels are {low}, which is neither 0 nor {full}")
        return MaskLevels(np.full(values.shape, 255 if low else 0, np.uint8))
    if (foreground | (values == low)).all():
        usual = (low, high) == (0, full)
        return MaskLevels(_binary_levels(foreground), "" if usual else TWO_VALUES)
    # False for NaN, too.
    if not (low >= 0 and high <= full):
        raise ValueError(f"its values from {low} to {high} have no fixed range")
    levels = values
    if levels.dtype != np.uint8:
        levels = np.rint(np.multiply(values, 255 / full, dtype=np.float32)).astype(np.uint8)
    found = [level for level, count in enumerate(Image.fromarray(levels).histogram()) if count]
    if len(found) < FEW_LEVELS and not any(127 < level < 255 for level in found):
        listed = shorten([str(value) for value in np.unique(values)])
        raise ValueError(f"its values {listed} may be numbers of classes or objects")
    return MaskLevels(levels)


def _binary_levels(foreground: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    return foreground.view(np.uint8) * np.uint8(255)


def _colour_levels(image: Image.Image) -> MaskLevels:
    colours = np.asarray(image)
    found = [np.array(colour, np.uint8) for _, colour in image.getcolors(2) or []]
    if len(found) == 2:
        # ITU-R BT.601, in thousandths.
        (dark, darker), (light, lighter) = sorted(
            (int(colour @ np.array([299, 587, 114])), colour.tolist()) for colour in found
        )
        if dark == light:
            raise ValueError(f"of its colours {darker} and {lighter}, none is brighter")
        foreground = (colours == np.array(lighter)).all(-1)
        usual = (darker, lighter) == ([0, 0, 0], [255, 255, 255])
        return MaskLevels(_binary_levels(foreground), "" if usual else TWO_COLOURS)
    if np.ptp(colours, axis=-1).max() <= _ROUNDING:
        return _number_levels(np.asarray(image.convert("L")), 255)
    varying = [channel for channel in np.moveaxis(colours, -1, 0) if np.ptp(channel)]
    if varying and all(np.array_equal(channel, varying[0]) for channel in varying):
        return MaskLevels(_number_levels(varying[0], 255).levels, ONE_COLOUR)
    raise ValueError("it has several colours, as a photograph or numbers of classes have")


def _palette_levels(image: Image.Image) -> MaskLevels:
    used = [index for index, count in enumerate(image.histogram()) if count]
    palette = np.zeros((256, 3), np.uint8)
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(stored)] = stored
    colours = [tuple(palette[index].tolist()) for index in used]
    if len(set(colours)) == len(used) and not np.ptp(palette[used], axis=-1).any():
        try:
            return _number_levels(palette[:, 0][np.asarray(image)], 255)
        except ValueError:
            # Grey levels that may be labels are labels in a palette.
            pass
    if len(used) > FEW_LEVELS:
        raise ValueError(f"its palette of {len(used)} colours is neither grey nor one of labels")
    labels = [index for index in used if index != _VOID or used[:-1] in ([], [0])]
    black = [index for index, colour in zip(used, colours, strict=True) if colour == (0, 0, 0)]
    if len(black) == 1:
        background = black[0]
    elif 0 in used or len(labels) == 2:
        background = labels[0]
    else:
        raise ValueError(f"none of its labels {shorten([*map(str, used)])} is known as background")
    foreground = np.zeros(256, np.uint8)
    foreground[labels] = 255
    foreground[background] = 0
    return MaskLevels(foreground[np.asarray(image)], LABELS)
