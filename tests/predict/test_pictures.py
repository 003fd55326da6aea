"""Pictures of all kinds as arrays, and the sides of masks."""

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.images import read_image
from sempart_jax.predict.pictures import as_rgb, choose_side

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 30, 3)).astype(np.uint8)


def test_sides():
    low, high = np.full((2, 2), 0.25, np.float32), np.full((2, 2), 0.75, np.float32)
    for mask, invert, inverted in (
        (low, "auto", False),
        (high, "auto", True),
        (high, "never", False),
        (low, "always", True),
    ):
        np.testing.assert_array_equal(choose_side(mask, invert), 1 - mask if inverted else mask)


def test_grey_alpha_palette_and_rotated_pictures(tmp_path):
    grey = RGB[..., 0]
    np.testing.assert_array_equal(as_rgb(grey), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(as_rgb(Image.fromarray(grey)), as_rgb(grey))
    alpha = Image.fromarray(np.dstack([RGB, grey]))
    np.testing.assert_array_equal(as_rgb(alpha), RGB)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "rotated.png", exif=exif)
    with Image.open(tmp_path / "rotated.png") as picture:
        rotated = as_rgb(picture)
    np.testing.assert_array_equal(rotated, read_image(tmp_path / "rotated.png"))
    assert rotated.shape == (30, 24, 3)


def test_sixteen_bits_are_scaled():
    values = np.linspace(0, 65535, 4 * 256).astype(np.uint16).reshape(4, 256)
    picture = Image.fromarray(values)
    assert picture.mode == "I;16"
    expected = np.rint(values.astype(np.float64) * 255 / 65535)
    np.testing.assert_array_equal(as_rgb(picture), np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("photo.jpg", "got str: open files with PIL"),
        (np.zeros((2, 24, 30, 3), np.uint8), r"got \(2, 24, 30, 3\)"),
        (np.zeros((24, 30, 4), np.uint8), "drop an alpha channel"),
        (np.zeros((0, 30, 3), np.uint8), "got"),
        (np.zeros((4, 4, 3), np.int32), "got int32, which has no fixed range"),
        (np.zeros((4, 4), np.uint16), "got uint16"),
        (np.full((4, 4, 3), 255.0), "divide 8-bit values by 255"),
        (np.full((4, 4, 3), np.nan), "values from nan"),
        (Image.new("RGB", (0, 3)), r"got \(3, 0, 3\)"),
        (Image.new("F", (3, 3), 0.5), "no fixed range: store 8 or 16 bits"),
        (Image.new("I", (3, 3), 70000), "of 32 bits have no fixed range"),
        (Image.new("I", (3, 3), -1), "of 32 bits have no fixed range"),
        (Image.fromarray(RGB).convert("I"), r"no fixed range: store .* image.convert\('L'\)"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_is_no_picture_is_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        as_rgb(picture)
