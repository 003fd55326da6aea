"""Masks in the encodings that people store them in: what they say, and which say nothing sure."""

import io

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.masks import (
    ALPHA,
    LABELS,
    ONE_COLOUR,
    TWO_COLOURS,
    TWO_VALUES,
    mask_levels,
)

OBJECT = np.zeros((8, 12), bool)
OBJECT[2:6, 3:9] = True
BORDER = np.zeros_like(OBJECT)
BORDER[1:7, 2:10] = True
BORDER &= ~OBJECT
SOFT = np.linspace(0, 255, OBJECT.size).reshape(OBJECT.shape).astype(np.uint8)
WHITE = OBJECT * np.uint8(255)


def grey(values, dtype=np.uint8) -> Image.Image:
    return Image.fromarray(np.asarray(values, dtype))


def two(background, foreground, dtype=np.uint8) -> Image.Image:
    return grey(np.where(OBJECT, foreground, background), dtype)


def colours(background, foreground) -> Image.Image:
    return grey(np.where(OBJECT[..., None], foreground, background))


def palette(index, *entries) -> Image.Image:
    image = Image.fromarray(np.asarray(index, np.uint8))
    image.putpalette([value for entry in entries for value in entry])
    assert image.mode == "P"
    return image


VOC = [(0, 0, 0), *((index, 255 - index, 128) for index in range(1, 256))]


def with_alpha(image: Image.Image, alpha) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.fromarray(np.asarray(alpha, np.uint8)))
    return image


BINARY = {
    "0 and 255": (two(0, 255), ""),
    "one bit": (Image.fromarray(OBJECT), ""),
    "0 and 1": (two(0, 1), TWO_VALUES),
    "0 and 128": (two(0, 128), TWO_VALUES),
    "3 and 7": (two(3, 7), TWO_VALUES),
    "16 bits, whole range": (two(0, 65535, np.uint16), ""),
    "16 bits, 0 and 1": (two(0, 1, np.uint16), TWO_VALUES),
    "16 bits, 0 and 255": (two(0, 255, np.uint16), TWO_VALUES),
    "32 bits, 0 and 1": (two(0, 1, np.int32), TWO_VALUES),
    "floating-point, 0 and 1": (two(0, 1, np.float32), ""),
    "floating-point, 0 and 255": (two(0, 255, np.float32), TWO_VALUES),
    "black and white in RGB": (colours((0, 0, 0), (255, 255, 255)), ""),
    "red on black": (colours((0, 0, 0), (128, 0, 0)), TWO_COLOURS),
    "0 and 1 in RGB": (colours((0, 0, 0), (1, 1, 1)), TWO_COLOURS),
    "blue on red": (colours((0, 0, 255), (255, 0, 0)), TWO_COLOURS),
    "VOC, one class": (palette(OBJECT * 15, *VOC), LABELS),
    "VOC, two classes": (
        palette(np.where(OBJECT, 15, 0) - 14 * (SOFT > 120) * OBJECT, *VOC),
        LABELS,
    ),
    "VOC with borders": (palette(np.where(BORDER, 255, OBJECT * 7), *VOC), LABELS),
    "two grey colours": (palette(OBJECT, (0, 0, 0), (1, 1, 1)), TWO_VALUES),
    "white before black": (palette(~OBJECT, (255, 255, 255), (0, 0, 0)), ""),
    "red before black": (palette(~OBJECT, (255, 0, 0), (0, 0, 0)), LABELS),
    "colours without black": (palette(OBJECT, (255, 255, 255), (200, 0, 0)), LABELS),
    "palette of black alone": (palette(OBJECT, (0, 0, 0)), LABELS),
    "labels in a grey palette": (
        palette(OBJECT * (1 + (SOFT > 120)), (0, 0, 0), (1, 1, 1), (2, 2, 2)),
        LABELS,
    ),
    "alpha alone": (with_alpha(grey(np.zeros((8, 12, 3))), WHITE), ALPHA),
    "alpha of white": (with_alpha(grey(np.full((8, 12), 255)), WHITE), ALPHA),
    "opaque colours": (with_alpha(colours((0, 0, 0), (255, 255, 255)), WHITE * 0 + 255), ""),
    "colours and alpha agree": (with_alpha(two(0, 255), WHITE), ""),
}


def stored(image: Image.Image) -> list[Image.Image]:
    """Return an image as it is, and as the file formats that take its mode give it back."""
    copies = [image]
    for kind in ("PNG", "TIFF"):
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind)
        except OSError:
            continue
        copies.append(Image.open(buffer))
        copies[-1].load()
    return copies


@pytest.mark.parametrize("kind", BINARY)
def test_a_mask_in_any_usual_encoding(kind):
    image, assumed = BINARY[kind]
    for copy in stored(image):
        read = mask_levels(copy)
        assert read.levels.dtype == np.uint8
        np.testing.assert_array_equal(read.levels, WHITE)
        if copy.mode == image.mode:
            assert read.assumed == assumed


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return Image.open(buffer)


@pytest.mark.parametrize(
    ("image", "assumed"),
    [
        (grey(SOFT), ""),
        (grey(SOFT.astype(np.uint16) * 257, np.uint16), ""),
        (grey(SOFT / np.float32(255), np.float32), ""),
        (grey(np.repeat(SOFT[..., None], 3, -1)), ""),
        (grey(SOFT).convert("P"), ""),
        (grey(SOFT).convert("P", palette=Image.Palette.ADAPTIVE, colors=256), ""),
        (grey(SOFT[..., None] * np.array([1, 0, 1])), ONE_COLOUR),
        (with_alpha(grey(SOFT), np.full_like(SOFT, 255)), ""),
        (with_alpha(grey(np.zeros((8, 12, 3))), SOFT), ALPHA),
    ],
)
def test_grey_levels_are_those_of_their_type(image, assumed):
    read = mask_levels(image)
    np.testing.assert_array_equal(read.levels, SOFT)
    assert read.assumed == assumed


def test_dim_and_compressed_masks_stay_what_they_are():
    dim = (SOFT // 3).astype(np.uint8)
    np.testing.assert_array_equal(mask_levels(grey(dim)).levels, dim)
    for image in (two(0, 255), colours((0, 0, 0), (255, 255, 255))):
        np.testing.assert_array_equal(mask_levels(jpeg(image)).levels > 127, OBJECT)


@pytest.mark.parametrize(
    ("image", "level"),
    [
        (grey(np.zeros((8, 12))), 0),
        (grey(np.full((8, 12), 255)), 255),
        (grey(np.full((8, 12), 65535), np.uint16), 255),
        (grey(np.zeros((8, 12, 3))), 0),
        (grey(np.full((8, 12, 3), 255)), 255),
        (palette(np.zeros((8, 12)), *VOC), 0),
        (palette(np.zeros((8, 12)), (0, 0, 0)), 0),
    ],
)
def test_empty_and_full(image, level):
    assert set(mask_levels(image).levels.ravel().tolist()) == {level}


PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (8, 12, 3))


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (grey(np.full((8, 12), 1)), "all of its pixels are 1,"),
        (grey(np.full((8, 12), 255), np.uint16), "neither 0 nor 65535"),
        (grey(OBJECT * 12 + BORDER * 15), "0, 12, 15 may be numbers of classes"),
        (grey(np.where(BORDER, 255, OBJECT * 15)), "0, 15, 255 may be numbers"),
        (grey(OBJECT * 1001 + BORDER * 1002, np.uint16), "0, 1001, 1002 may be numbers"),
        (grey(SOFT, np.uint16), "may be numbers of classes"),
        (grey(SOFT * 1000.0, np.int32), "no fixed range"),
        (grey(SOFT / 100.0, np.float32), "no fixed range"),
        (grey(np.where(OBJECT, np.nan, SOFT / 255), np.float32), "no fixed range"),
        (grey(PHOTOGRAPH), "several colours"),
        (
            grey(np.kron(PHOTOGRAPH, np.ones((4, 4, 1)))).quantize(64),
            r"palette of \d+ colours is neither grey",
        ),
        (palette(np.where(BORDER, 3, 1 + OBJECT), *VOC), "none of its labels 1, 2, 3"),
        (palette(np.where(BORDER, 255, 15), *VOC), "none of its labels 15, 255"),
        (grey(np.full((8, 12, 3), 9)), "all of its pixels are 9"),
        (colours((92, 0, 0), (0, 2, 231)), "none is brighter"),
        (with_alpha(two(255, 0), WHITE), "two different masks"),
        (with_alpha(grey(PHOTOGRAPH), WHITE), "several colours"),
    ],
)
def test_what_may_mean_several_things_is_refused(image, told):
    with pytest.raises(ValueError, match=told):
        mask_levels(image)
