"""Small labelled data sets in the layouts of their authors, unpacked and zipped."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from sempart_jax.data.archives import ARCHIVES, file_name
from sempart_jax.data.benchmarks import BENCHMARKS

ORIENTATION = 0x0112
STEMS = ["d", "a", "c", "b"]


def photo(seed: int = 0, height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(array: np.ndarray, extension: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    kind = "JPEG" if extension == "jpg" else extension.upper()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def pair(seed: int, height: int = 6, width: int = 9) -> tuple[bytes, bytes]:
    """Bytes of an image and of a mask with grey levels."""
    image = photo(seed, height, width)
    return encode(image, "jpg"), encode(image[..., 0])


def relative(name: str, role: str) -> str:
    """Folder of a benchmark's images or masks below the benchmark's own folder."""
    return getattr(BENCHMARKS[name], role).split("/", 1)[1]


def write_unpacked(name: str, root: Path, stems: list[str]) -> None:
    """Write a benchmark as its authors' archives unpack, image ``k`` from seed ``k``."""
    for seed, stem in enumerate(stems):
        image, mask = pair(seed)
        for role, file, data in (("images", f"{stem}.jpg", image), ("masks", f"{stem}.png", mask)):
            path = root / getattr(BENCHMARKS[name], role) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def members(name: str, stems: list[str]) -> dict[str, dict[str, bytes]]:
    """Members of each archive of a benchmark by their path, as its authors zip them."""
    images, masks = map(file_name, ARCHIVES[name])
    archives: dict[str, dict[str, bytes]] = {images: {}, masks: {}}
    for seed, stem in enumerate(stems):
        image, mask = pair(seed)
        archives[images][f"{relative(name, 'images')}/{stem}.jpg"] = image
        archives[masks][f"{relative(name, 'masks')}/{stem}.png"] = mask
    return archives


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_archives(name: str, folder: Path, stems: list[str]) -> None:
    for archive, files in members(name, stems).items():
        write_zip(folder / archive, files)
