"""Crops of resized images: in every bit those of resizing the whole image first."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sempart_jax.data.crops import CropReader, resized_crop
from sempart_jax.data.image_sizes import MAXIMUM_ASPECT_RATIO, resize_short_side
from sempart_jax.data.image_sources import ImageFiles, PillowSource
from sempart_jax.data.images import UnreadableImageError, read_image
from sempart_jax.segmentation.pseudo_masks import MaskedImages
from tests.data.labelled_files import photo

SIZES = {"side": 16, "resize_size": 20}
ROWS, COLUMNS = slice(3, 19), slice(5, 21)


def corner(height: int, width: int) -> tuple[int, int]:
    return 3, 5


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("channels", [(), (3,)])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_crop_is_that_of_the_resized_image(channels, data):
    shape = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    size = data.draw(st.integers(1, 50))
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, *channels), dtype=np.uint8)
    resized = resize_short_side(pixels, size)
    top, left = (data.draw(st.integers(0, side - 1)) for side in resized.shape[:2])
    height = data.draw(st.integers(1, resized.shape[0] - top))
    width = data.draw(st.integers(1, resized.shape[1] - left))
    crop = resized_crop(Image.fromarray(pixels), size, top, left, height, width)
    np.testing.assert_array_equal(crop, resized[top : top + height, left : left + width])


def test_photographs_in_every_bit(reference_data):
    paths = sorted((reference_data / "DUTS/DUTS-TR/DUTS-TR-Image").glob("*.jpg"))[:20]
    for path in paths:
        resized = resize_short_side(read_image(path), 355)
        top, left = resized.shape[0] - 320, (resized.shape[1] - 320) // 2
        with Image.open(path) as image:
            crop = resized_crop(image.convert("RGB"), 355, top, left, 320, 320)
        np.testing.assert_array_equal(crop, resized[top : top + 320, left : left + 320])


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    return (
        write(tmp_path / "images/a.png", photo(0, 24, 36)),
        write(tmp_path / "masks/a.png", photo(1, 12, 18)[..., 0]),
    )


def test_image_and_mask_are_cut_alike(pair):
    source = MaskedImages([pair], pair[0].parent)
    image, mask = CropReader(source, **SIZES).read(0, corner)
    np.testing.assert_array_equal(image, resize_short_side(source.read(0), 20)[ROWS, COLUMNS])
    whole = resize_short_side(source.read_mask(0, 24, 36), 20)
    np.testing.assert_array_equal(mask, whole[ROWS, COLUMNS])


class Arrays:
    """Images that were never files; masked by a subclass."""

    names = ("a",)

    def label(self, index: int) -> str:
        return "the array"

    def read(self, index: int) -> np.ndarray:
        return photo(0, 24, 36)


def test_sources_of_arrays():
    source = Arrays()
    assert not isinstance(source, PillowSource)
    image, mask = CropReader(source, **SIZES).read(0, corner)
    np.testing.assert_array_equal(image, resize_short_side(photo(0, 24, 36), 20)[ROWS, COLUMNS])
    assert mask is None


def test_the_place_is_drawn_from_the_resized_shape(pair):
    asked = []

    def place(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return 0, 0

    CropReader(ImageFiles([pair[0]], pair[0].parent), **SIZES).read(0, place)
    assert asked == [(20, 30)]


@pytest.mark.parametrize("shape", [(2, 2 * MAXIMUM_ASPECT_RATIO + 1), (41, 2)])
def test_strips_are_refused_by_name(tmp_path, shape):
    path = write(tmp_path / "a.png", np.zeros((*shape, 3), np.uint8))
    with pytest.raises(UnreadableImageError, match=f"{shape[1]}x{shape[0]} pixels") as caught:
        CropReader(ImageFiles([path], tmp_path), **SIZES).read(0, corner)
    assert caught.value.path == str(path)


def test_errors_are_labelled_as_the_source_does():
    class Damaged(Arrays):
        def read(self, index: int) -> np.ndarray:
            raise UnreadableImageError("part 7 of a record", "cut off")

    with pytest.raises(UnreadableImageError, match="cut off") as caught:
        CropReader(Damaged(), **SIZES).read(0, corner)
    assert caught.value.path == "the array"
