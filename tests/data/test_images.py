import io
import os
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from sempart_jax.data.images import (
    UnreadableImageError,
    check_foreground,
    exif_orientation,
    open_image,
    read_grey,
    read_image,
    read_photograph,
    rgb_pixels,
)

ORIENTATION = 0x0112
# What the camera stores of an upright image, from the table of EXIF 2.32: where its first row and
# first column lie in the upright image.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(np.ascontiguousarray(array)).save(path, **options)
    return path


def huge_png(width: int, height: int) -> bytes:
    """A file of a few bytes that claims to be an image of ``width`` x ``height``."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("extension", ["png", "webp", "tiff"])
def test_orientation_is_applied(tmp_path, photo, orientation, extension):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if extension == "webp" else {}
    path = save(tmp_path / f"x.{extension}", STORED[orientation](photo), exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), photo)
    with Image.open(path) as image:
        np.testing.assert_array_equal(rgb_pixels(image), photo)
    grey = np.repeat(photo[..., :1], 3, axis=-1)
    save(path, STORED[orientation](grey), exif=exif, **options)
    np.testing.assert_array_equal(read_grey(path), photo[..., 0])


def palette_image(colours: np.ndarray, index: np.ndarray) -> Image.Image:
    image = Image.fromarray(index).convert("P")
    image.putpalette(colours.tobytes())
    image.putdata(index.ravel().tolist())
    return image


def test_grey_alpha_and_cmyk_become_rgb(tmp_path, photo):
    grey, alpha = photo[..., 0], Image.fromarray(photo[..., 1])
    ink = np.zeros((6, 9, 4), np.uint8)
    ink[..., 0] = grey
    cyan = np.full_like(photo, 255)
    cyan[..., 0] = 255 - grey
    thrice = np.repeat(grey[..., None], 3, axis=-1)
    for image, extension, expected in [
        (Image.fromarray(photo), "png", photo),
        (Image.fromarray(grey), "png", thrice),
        (Image.merge("LA", [Image.fromarray(grey), alpha]), "png", thrice),
        (Image.fromarray(np.concatenate([photo, photo[..., :1]], axis=-1)), "png", photo),
        (Image.fromarray(ink, "CMYK"), "tiff", cyan),
    ]:
        image.save(tmp_path / f"x.{extension}")
        read = read_image(str(tmp_path / f"x.{extension}"))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, expected, err_msg=image.mode)
        read[0, 0] = 0


def tiff(bands: int, bits: int) -> bytes:
    """A file of one pixel, of grey and what else."""
    fields = {256: 1, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: bands, 278: 1, 279: 99}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in fields.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 99) + bytes(99) + directory


@pytest.mark.parametrize("content", [b"", b"II*\0", tiff(5, 8), tiff(1, 64), b"<html>"])
def test_what_is_no_image_at_all_is_told_with_the_formats(tmp_path, content):
    told = (
        r"not an image in one of the formats JPEG, PNG.*or a TIFF of other bands than grey or RGB"
    )
    with pytest.raises(UnreadableImageError, match=told):
        read_image(content, "x")


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_palette(tmp_path, transparency):
    colours = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 7]], np.uint8)
    index = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    options = {} if transparency is None else {"transparency": transparency}
    palette_image(colours, index).save(tmp_path / "x.png", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), colours[index])
    with Image.open(tmp_path / "x.png") as opened:
        info = dict(opened.info)
        np.testing.assert_array_equal(rgb_pixels(opened), colours[index])
        assert (opened.mode, opened.info) == ("P", info), "the caller's image stays as it is"


@pytest.mark.parametrize("extension", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path, extension):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(tmp_path / f"x.{extension}", values)
    expected = np.round(values.astype(np.float64) * 255 / 65535).astype(np.uint8)
    np.testing.assert_array_equal(read_image(path), np.repeat(expected[..., None], 3, axis=-1))
    with Image.open(path) as image:
        np.testing.assert_array_equal(rgb_pixels(image), read_image(path))
    np.testing.assert_array_equal(read_grey(path), expected)


def test_metadata_behind_the_pixels_of_a_png_turns_it_too(tmp_path, photo):
    Image.fromarray(STORED[6](photo)).save(tmp_path / "x.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    # After all pixels, where some programs add it.
    content, end = (tmp_path / "x.png").read_bytes()[:-12], (tmp_path / "x.png").read_bytes()[-12:]
    chunk = io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", exif.tobytes()[6:])
    (tmp_path / "x.png").write_bytes(content + chunk.getvalue() + end)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), photo)
    with Image.open(tmp_path / "x.png") as image:
        np.testing.assert_array_equal(rgb_pixels(image), photo)


@pytest.mark.parametrize("extension", ["png", "tiff", "jpg"])
def test_orientation_is_applied_once(tmp_path, photo, extension):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / f"x.{extension}", STORED[6](photo), exif=exif)
    upright = read_image(path)
    assert upright.shape == photo.shape
    np.testing.assert_array_equal(rgb_pixels(open_image(path)), upright)
    with Image.open(path) as image:
        np.testing.assert_array_equal(rgb_pixels(image.convert("RGB")), upright)


def transparent(kind: str) -> tuple[Image.Image, dict]:
    """An image whose middle is transparent, and how it is saved."""
    grey = np.array([[10, 20, 30]], np.uint8)
    alpha = Image.fromarray(np.array([[255, 0, 99]], np.uint8))
    if kind == "RGBA":
        return Image.merge("RGBA", [*[Image.fromarray(grey)] * 3, alpha]), {}
    if kind == "LA":
        return Image.merge("LA", [Image.fromarray(grey), alpha]), {}
    if kind == "P":
        colours = np.repeat(grey[0, :, None], 3, axis=-1)
        palette = palette_image(colours, np.array([[0, 1, 2]], np.uint8))
        return palette, {"transparency": bytes([255, 0, 99])}
    if kind == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257), {"transparency": 20 * 257}
    return Image.fromarray(grey).convert(kind), {"transparency": 20 if kind == "L" else (20,) * 3}


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
def test_transparency_of_a_photograph(tmp_path, kind):
    image, options = transparent(kind)
    image.save(tmp_path / "x.png", **options)
    photograph = read_photograph(tmp_path / "x.png")
    np.testing.assert_array_equal(photograph.pixels, [[[10] * 3, [20] * 3, [30] * 3]])
    soft = kind in ("RGBA", "LA", "P")
    np.testing.assert_array_equal(photograph.alpha, [[255, 0, 99 if soft else 255]])
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image.save(tmp_path / "x.png", exif=exif, **options)
    assert read_photograph(tmp_path / "x.png").alpha.shape == (3, 1)


@pytest.mark.parametrize("extension", ["png", "jpg", "tiff", "webp"])
def test_orientation_is_told_from_the_head(tmp_path, photo, extension):
    exif = Image.Exif()
    for orientation in (6, 3):
        exif[ORIENTATION] = orientation
        path = save(tmp_path / f"x.{extension}", photo, exif=exif)
        assert exif_orientation(path) == exif_orientation(path.read_bytes()) == orientation
    assert exif_orientation(save(tmp_path / f"x.{extension}", photo)) == 1
    assert exif_orientation(tmp_path / "absent.jpg") == exif_orientation(b"nothing") == 1


def test_an_opaque_photograph_has_no_alpha(tmp_path, photo):
    for number, image in enumerate([photo, np.dstack([photo, np.full((6, 9), 255, np.uint8)])]):
        photograph = read_photograph(save(tmp_path / f"{number}.png", image))
        assert (photograph.alpha, photograph.profile) == (None, None)
        np.testing.assert_array_equal(photograph.pixels, photo)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float) -> bytes:
    """The smallest ICC profile of grey levels: white, and a curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(gamma * 256))
    start = 128 + 4 + 2 * 12
    table = struct.pack(">I", 2)
    for name, offset, data in ((b"wtpt", start, white), (b"kTRC", start + len(white), curve)):
        table += name + struct.pack(">II", offset, len(data))
    body = table + white + curve
    head = struct.pack(
        ">I4sI4s4s4s", 128 + len(body), b"\0\0\0\0", 0x02400000, b"mntr", b"GRAY", b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


@pytest.mark.parametrize("extension", ["png", "jpg", "tiff", "webp"])
def test_a_profile_of_rgb_goes_with_the_pixels(tmp_path, photo, extension):
    plain = read_image(save(tmp_path / f"plain.{extension}", photo))
    photograph = read_photograph(save(tmp_path / f"x.{extension}", photo, icc_profile=SRGB))
    assert photograph.profile == SRGB
    np.testing.assert_array_equal(photograph.pixels, plain)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_levels_of_a_profile_become_srgb(tmp_path, mode):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(levels).convert(mode)
    image.save(tmp_path / "x.png", icc_profile=grey_profile(1.8))
    linear = (levels / 255) ** 1.8
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    photograph = read_photograph(tmp_path / "x.png")
    assert photograph.profile is None
    assert np.abs(photograph.pixels - 255 * srgb[..., None]).max() <= 2
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), photograph.pixels)
    # Those of a mask are no colours.
    np.testing.assert_array_equal(read_grey(tmp_path / "x.png"), levels)


@pytest.mark.parametrize(
    "profile",
    [
        b"garbage" * 30,
        SRGB[:100],
        SRGB[:16] + b"CMYK" + SRGB[20:],
        grey_profile(1.8)[:140],
        SRGB + bytes(2**22),
    ],
    # Names that are the same in all processes: a profile has the time at which it was made.
    ids=["garbage", "cut", "of CMYK", "cut grey", "huge"],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_profile_of_no_use_is_dropped(tmp_path, photo, mode, profile):
    Image.fromarray(photo).convert(mode).save(tmp_path / "x.tiff", icc_profile=profile)
    photograph = read_photograph(tmp_path / "x.tiff")
    assert photograph.profile is None
    expected = np.array(Image.fromarray(photo).convert(mode).convert("RGB"))
    np.testing.assert_array_equal(photograph.pixels, expected)


@pytest.mark.parametrize(
    "values",
    [
        np.full((3, 3), 0.5, np.float32),
        np.full((3, 3), 70000, np.int32),
        # Black as 16 bits, and perhaps meant as 8.
        np.arange(9, dtype=np.int32).reshape(3, 3) * 31,
    ],
)
def test_no_fixed_range_is_refused(tmp_path, values):
    with pytest.raises(UnreadableImageError, match="no fixed range") as refused:
        read_image(save(tmp_path / "x.tiff", values))
    with pytest.raises(ValueError, match="no fixed range") as refused_too:
        rgb_pixels(Image.fromarray(values))
    assert refused.value.reason == f"ValueError: {refused_too.value}"


def test_masks_grey_rgb_palette_and_binary(tmp_path):
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    thrice = np.repeat(grey[..., None], 3, axis=-1)
    index = np.array([[0, 1, 2, 3]], np.uint8)
    for image, expected in [
        (Image.fromarray(grey), grey),
        (Image.fromarray(thrice), grey),
        (palette_image(thrice[0], index), grey),
        (Image.fromarray(grey > 127), np.where(grey > 127, 255, 0)),
    ]:
        image.save(tmp_path / "x.png")
        mask = read_grey(tmp_path / "x.png")
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected, err_msg=image.mode)


def test_masks_in_ink_are_read_and_photographs_are_no_masks(tmp_path, photo):
    ink = np.zeros((2, 2, 4), np.uint8)
    ink[0, :, 3] = 255
    Image.fromarray(ink, "CMYK").save(tmp_path / "x.jpg", quality=100)
    np.testing.assert_array_equal(read_grey(tmp_path / "x.jpg"), [[0, 0], [255, 255]])
    told = r"x\.png: it has several colours.*: store a grey mask with 0 .* and 255 for foreground"
    with pytest.raises(UnreadableImageError, match=told):
        read_grey(save(tmp_path / "x.png", photo))


def test_what_is_assumed_of_a_mask_is_told_once_for_its_folder(tmp_path, caplog):
    mask = np.array([[0, 1], [1, 1]], np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("x.png", "y.png"):
            read = read_grey(save(tmp_path / folder / name, mask))
            np.testing.assert_array_equal(read, mask * np.uint8(255))
            read[0, 0] = 1
    for name in ("x/mask", "y/mask"):
        read_grey((tmp_path / "a/x.png").read_bytes(), name, str(tmp_path / "prepared"))
    told = [line.split(" is not plain grey: of its two values")[0] for line in caplog.messages]
    assert told == [
        f"the mask {name}"
        for name in (*map(str, [tmp_path / "a/x.png", tmp_path / "b/x.png"]), "x/mask")
    ]


def test_a_data_set_without_foreground_is_an_error(tmp_path):
    empty = save(tmp_path / "empty.png", np.zeros((4, 4), np.uint8))
    full = save(tmp_path / "full.png", np.full((4, 4), 255, np.uint8))
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    check_foreground([empty, damaged, full])
    # Whoever reads them names them.
    check_foreground([damaged])
    with pytest.raises(ValueError, match=r"none of the 2 masks .*foreground, such as .*empty\.png"):
        check_foreground([empty, damaged, empty])


@pytest.mark.parametrize("extension", ["png", "jpg", "tiff"])
def test_bytes_decode_as_the_file_does(tmp_path, photo, extension):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / f"x.{extension}", photo, exif=exif)
    image = read_image(path.read_bytes(), "x")
    assert image.shape == (9, 6, 3)
    np.testing.assert_array_equal(image, read_image(path))
    save(path, np.repeat(photo[..., :1], 3, axis=-1), exif=exif)
    grey = read_grey(path.read_bytes(), "x")
    assert grey.shape == (9, 6)
    np.testing.assert_array_equal(grey, read_grey(path))
    image[0, 0] = grey[0, 0] = 0


BROKEN = {
    "text": (lambda whole: b"<html>404 not found</html>", "not an image"),
    "empty": (lambda whole: b"", "not an image"),
    "cut": (lambda whole: whole[: len(whole) // 2], "runcated"),
    "bomb": (lambda whole: huge_png(10_000, 10_000), "limit"),
    "twice the bomb": (lambda whole: huge_png(40_000, 40_000), "limit"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("extension", ["png", "jpg"])
@pytest.mark.parametrize("read", [read_image, read_grey])
def test_what_is_broken_raises_one_error(tmp_path, kind, extension, read):
    damage, word = BROKEN[kind]
    large = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"x.{extension}", large)
    path.write_bytes(damage(path.read_bytes()))
    inside = "archive.zip/x.png"
    for name, start in (
        (str(path), lambda: read(path)),
        (inside, lambda: read(path.read_bytes(), inside)),
    ):
        with pytest.raises(UnreadableImageError) as caught:
            start()
        assert caught.value.path == name
        assert word in caught.value.reason
        assert str(caught.value) == f"cannot read the image {name}: {caught.value.reason}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(tmp_path, photo):
    path = save(tmp_path / "x.png", photo)
    path.chmod(0)
    with pytest.raises(UnreadableImageError, match="Permission"):
        read_image(path)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "bmp", "gif", "tiff", "ppm"])
def test_a_read_image_needs_its_file_no_more(tmp_path, photo, extension):
    path = save(tmp_path / f"x.{extension}", photo)
    expected = read_image(path)
    image = open_image(path)
    decoded = open_image(path.read_bytes(), "x")
    path.unlink()
    for picture in (image, decoded):
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), expected)
        corner = picture.crop((0, 0, 4, 5))
        np.testing.assert_array_equal(np.asarray(corner), expected[:5, :4])


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(UnreadableImageError(Path("a/b.jpg"), "cut")))
    assert (error.path, error.reason) == ("a/b.jpg", "cut")


@pytest.mark.parametrize(
    ("extension", "exif"),
    [
        ("jpg", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        ("jpg", b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0"),
        ("jpg", b"Exif\0\0garbage"),
        ("png", b"garbage!!"),
        ("webp", b"garbage!!"),
    ],
)
def test_damaged_metadata_costs_nothing(tmp_path, photo, extension, exif):
    clean, damaged = tmp_path / f"clean.{extension}", tmp_path / f"damaged.{extension}"
    Image.fromarray(photo).save(clean)
    Image.fromarray(photo).save(damaged, exif=exif)
    np.testing.assert_array_equal(read_image(damaged), read_image(clean))


def test_damaged_metadata_would_warn_or_fail(tmp_path, photo):
    """The test above guards something: PIL itself stumbles over the same bytes."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0"
    Image.fromarray(photo).save(tmp_path / "damaged.jpg", exif=exif)
    with pytest.raises(UserWarning), Image.open(tmp_path / "damaged.jpg") as image:
        image.getexif().get(ORIENTATION)


def test_threads_leave_the_warning_filters_alone(tmp_path, photo):
    paths = [save(tmp_path / f"{number}.png", photo) for number in range(4)] * 100
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, paths))
    assert list(warnings.filters) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("pipe", "folder", "endless"):
        with pytest.raises(
            UnreadableImageError, match=rf"{name}\.png: a directory, pipe or device, no reg"
        ):
            read_image(tmp_path / f"{name}.png")
    for name, reason in (("loop", "symbolic links"), ("missing", "No such file")):
        with pytest.raises(UnreadableImageError, match=rf"{name}\.png: .*{reason}"):
            read_image(tmp_path / f"{name}.png")


def test_real_files(reference_data):
    folder = reference_data / "ECSSD"
    for image in sorted((folder / "images").iterdir())[:40]:
        mask = read_grey(folder / "ground_truth_mask" / f"{image.stem}.png") > 127
        assert read_image(image).shape[:2] == mask.shape
        assert 0 < mask.mean() < 1
