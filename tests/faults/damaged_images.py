"""Bytes of image files as strangers make them: damaged, disguised, enormous, or merely unusual."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from sempart_jax.data.synthetic import synthetic_scene

WIDTH, HEIGHT = 56, 48
PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112


def scene(seed: int = 0) -> Image.Image:
    return Image.fromarray(synthetic_scene(np.random.default_rng(seed), WIDTH)[0][:HEIGHT])


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    crc = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png_header(width: int, height: int, *, bits: int = 8, colour: int = 0, interlace: int = 0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


def png(*chunks: bytes) -> bytes:
    return PNG + b"".join(chunks) + chunk(b"IEND", b"")


def with_chunk(name: bytes, data: bytes) -> bytes:
    """A whole PNG with one more chunk behind its header of 33 bytes."""
    whole = encode(scene())
    return whole[:33] + chunk(name, data) + whole[33:]


def interlaced() -> bytes:
    """Grey pixels in the seven passes of Adam7 (PNG specification, Sec. 8.2)."""
    grey = np.asarray(scene().convert("L"))
    rows = []
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        rows += [b"\0" + row.tobytes() for row in grey[top::down, left::right]]
    return png(
        png_header(WIDTH, HEIGHT, interlace=1), chunk(b"IDAT", zlib.compress(b"".join(rows)))
    )


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""
    return png(png_header(width, height), chunk(b"IDAT", zlib.compress(bytes(1000))))


def bomb(side: int = 50_000) -> bytes:
    """A whole PNG of ``side`` x ``side`` white pixels of one bit, about a thousandth as large."""
    packed = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (side // 8)
    data = b"".join(packed.compress(row * 500) for _ in range(side // 500)) + packed.flush()
    return png(png_header(side, side, bits=1), chunk(b"IDAT", data))


def rotated() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encode(scene(), "JPEG", exif=exif)


def huge_jpeg() -> bytes:
    """A JPEG whose frame header claims 65,500 x 65,500 pixels."""
    whole = bytearray(encode(scene(), "JPEG"))
    start = whole.index(b"\xff\xc0") + 5
    whole[start : start + 4] = struct.pack(">HH", 65_500, 65_500)
    return bytes(whole)


def cut(data: bytes, fraction: float) -> bytes:
    return data[: int(len(data) * fraction)]


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def frames(kind: str) -> bytes:
    more = [scene(seed) for seed in (1, 2)]
    return encode(scene(), kind, save_all=True, append_images=more)


def palette(**options) -> bytes:
    return encode(scene().quantize(17), **options)


def sixteen_bits(value: int | None = None) -> bytes:
    values = np.asarray(scene().convert("L")).astype(np.uint16) * 257
    return encode(Image.fromarray(values if value is None else np.full_like(values, value)))


def damaged() -> dict[str, bytes]:
    """Files that hold no readable image, by name."""
    jpeg, whole, webp = encode(scene(), "JPEG"), encode(scene()), encode(scene(), "WEBP")
    noise = np.random.default_rng(0).bytes(5000)
    grey = np.zeros((4, 4))
    return {
        **{f"cut_{part}.jpg": cut(jpeg, part / 100) for part in (1, 5, 20, 40, 60, 80, 90)},
        **{f"cut_{part}.png": cut(whole, part / 100) for part in (1, 10, 30, 50, 70, 90)},
        **{f"cut_{part}.webp": cut(webp, part / 100) for part in (1, 25, 50, 75)},
        "empty.jpg": b"",
        "one_byte.png": b"\x89",
        "zeros.png": bytes(1_000_000),
        "noise.jpg": noise,
        "noise.webp": noise,
        "jpeg_and_noise.jpg": b"\xff\xd8\xff\xe0" + noise,
        "png_and_noise.png": PNG + noise,
        "webp_and_noise.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 " + noise,
        "text.jpg": b"dear reader,\nhere is no picture.\n",
        "page.png": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
        "data.webp": b'{"error": "quota exceeded"}',
        "document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n",
        "archive.png": b"PK\x03\x04" + noise,
        "packed.png": gzip.compress(whole),
        "executable.jpg": b"\x7fELF\x02\x01\x01" + noise,
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "film.jpg": b"\x00\x00\x00\x18ftypmp42" + noise,
        "bomb.png": bomb(),
        "claim.png": claiming(2**31 - 1, 2**31 - 1),
        "claim.jpg": huge_jpeg(),
        "claim_ppm.jpg": b"P6 99999 99999 255\n" + noise,
        "claim_bmp.png": b"BM"
        + struct.pack("<IHHIIiiHH", 60, 0, 0, 54, 40, 2**31 - 1, 9999, 1, 24)
        + bytes(60),
        "no_width.png": png(png_header(0, 9), chunk(b"IDAT", zlib.compress(b""))),
        "no_pixels.png": png(png_header(9, 9)),
        "header_crc.png": flipped(whole, 30),
        "no_zlib.png": png(png_header(9, 9), chunk(b"IDAT", noise)),
        "packed_text.png": with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        "float.png": encode(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "32_bits.png": encode(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"),
    }


def unusual() -> dict[str, bytes]:
    """Files that are to be read, by name."""
    jpeg, whole = encode(scene(), "JPEG"), encode(scene())
    rgba = np.dstack([np.asarray(scene()), np.asarray(scene(1).convert("L"))])
    grey = Image.fromarray(rgba[..., 0])
    makers: dict[str, Callable[[], bytes]] = {
        "1x1.png": lambda: encode(scene().resize((1, 1))),
        "16_bits.png": sixteen_bits,
        "16_bits_black.png": lambda: sixteen_bits(0),
        "inks.jpg": lambda: encode(scene().convert("CMYK"), "JPEG"),
        "palette.png": palette,
        "palette_clear.png": lambda: palette(transparency=3),
        "palette_alpha.png": lambda: palette(transparency=bytes(range(0, 170, 10))),
        "grey_alpha.png": lambda: encode(grey.convert("LA")),
        "alpha.png": lambda: encode(Image.fromarray(rgba)),
        "clear.png": lambda: encode(Image.new("RGBA", (9, 9))),
        "one_bit.png": lambda: encode(scene().convert("1")),
        "interlaced.png": interlaced,
        "progressive.jpg": lambda: encode(scene(), "JPEG", progressive=True),
        "grey.jpg": lambda: encode(grey, "JPEG"),
        "moving_gif.png": lambda: frames("GIF"),
        "moving.webp": lambda: frames("WEBP"),
        "moving.png": lambda: frames("PNG"),
        "bmp.jpg": lambda: encode(scene(), "BMP"),
        "tiff.png": lambda: encode(scene(), "TIFF"),
        "ppm.webp": lambda: encode(scene(), "PPM"),
        "png.jpg": lambda: whole,
        "jpeg.png": lambda: jpeg,
        "rotated.jpg": rotated,
        "bad_exif.jpg": lambda: encode(scene(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        # Of the pixels, which are whole.
        "bad_sum.png": lambda: flipped(whole, len(whole) - 16),
        "bad_profile.jpg": lambda: encode(scene(), "JPEG", icc_profile=b"no profile"),
        "long_comment.jpg": lambda: encode(scene(), "JPEG", comment=b"x" * 65_000),
        "long_text.png": lambda: with_chunk(b"tEXt", b"a\0" + b"x" * 3_000_000),
        "more_behind.jpg": lambda: jpeg + bytes(1_000_000),
        "black.png": lambda: encode(Image.new("RGB", (WIDTH, HEIGHT))),
        "white.png": lambda: encode(Image.new("RGB", (WIDTH, HEIGHT), "white")),
        "large.png": lambda: encode(Image.new("1", (3000, 3000), 1)),
    }
    return {name: make() for name, make in makers.items()}


def strips() -> dict[str, bytes]:
    """Images that are read, but too long to be cropped after their short side was resized."""
    sizes = {"row.png": (20_000, 1), "column.png": (1, 20_000), "band.jpg": (1200, 3)}
    return {
        name: encode(scene().resize(size), "JPEG" if name.endswith("jpg") else "PNG")
        for name, size in sizes.items()
    }
