"""Which images are shown while a run trains."""

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.image_sizes import center_crop, resize_short_side
from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.images import read_grey, read_image
from sempart_jax.data.samples import read_samples
from sempart_jax.segmentation.pseudo_masks import MaskedImages


@pytest.fixture
def paths(tmp_path):
    """Eleven files; image ``i`` is plain and has the value ``10 i``."""
    files = [tmp_path / f"{i:02d}.png" for i in range(11)]
    for index, file in enumerate(files):
        Image.fromarray(np.full((12, 16, 3), 10 * index, np.uint8)).save(file)
    return files


def shown(paths, count):
    source = ImageFiles(paths, paths[0].parent if paths else ".")
    images = read_samples(source, count, image_size=8, resize_size=10).image
    assert images.shape[1:] == (8, 8, 3)
    assert images.dtype == np.uint8
    return (images[:, 4, 4, 0] // 10).tolist()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [0]),
        (2, [0, 5]),
        (4, [0, 2, 5, 8]),
        (6, [0, 1, 3, 5, 7, 9]),
        (11, list(range(11))),
        (99, list(range(11))),
    ],
)
def test_images_are_spread_over_the_data_set(paths, count, expected):
    assert shown(paths, count) == expected


def test_unreadable_files_are_replaced_by_others(paths):
    paths[0].write_bytes(b"no image")
    paths[5].unlink()
    assert shown(paths, 2) == [1, 2]
    assert shown(paths, 11) == [1, 2, 3, 4, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1)])
def test_strips_that_cannot_be_trained_on_are_not_shown(paths, size):
    Image.new("RGB", size, (250, 0, 0)).save(paths[0])
    assert shown(paths, 2) == [5, 1]


def test_no_readable_file_gives_no_image(paths, tmp_path):
    for path in paths:
        path.write_bytes(b"")
    assert shown(paths, 3) == []
    assert shown([], 3) == []


def test_image_is_resized_and_cropped_in_the_middle(tmp_path):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    (image,) = read_samples(ImageFiles([path], tmp_path), 1, image_size=16, resize_size=20).image
    np.testing.assert_array_equal(image, center_crop(resize_short_side(read_image(path), 20), 16))


@pytest.fixture
def pairs(tmp_path, paths):
    """The files of ``paths`` and random masks."""
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    pairs = [(path, tmp_path / "masks" / path.name) for path in paths]
    for _, mask in pairs:
        Image.fromarray(rng.integers(0, 256, (12, 16), dtype=np.uint8)).save(mask)
    return pairs


def test_masks_are_those_of_the_images(pairs, tmp_path):
    pairs[0][1].write_bytes(b"no image")
    pairs[5][0].unlink()
    source = MaskedImages(pairs, tmp_path)
    image, mask = read_samples(source, 4, image_size=8, resize_size=10)
    numbers = (image[:, 4, 4, 0] // 10).tolist()
    # Those that can be read of 0, 2, 5 and 8, and the first others.
    assert numbers == [2, 8, 1, 3]
    assert mask.dtype == np.uint8
    for number, sample in zip(numbers, mask, strict=True):
        expected = center_crop(resize_short_side(read_grey(pairs[number][1]), 10), 8)
        np.testing.assert_array_equal(sample, expected)


def test_no_readable_mask_gives_no_sample(pairs, tmp_path):
    for _, mask in pairs:
        mask.unlink()
    image, mask = read_samples(MaskedImages(pairs, tmp_path), 3, image_size=8, resize_size=10)
    assert image.shape == (0, 8, 8, 3)
    assert mask.shape == (0, 8, 8)


def test_images_without_masks(paths):
    source = ImageFiles(paths, paths[0].parent)
    assert read_samples(source, 3, image_size=8, resize_size=10).mask is None
