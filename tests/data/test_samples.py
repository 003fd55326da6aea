"""Which images are shown while a run trains."""

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.images import center_crop, read_image, resize_short_side
from sempart_jax.data.samples import sample_images


@pytest.fixture
def paths(tmp_path):
    """Eleven files; image ``i`` is plain and has the value ``10 i``."""
    files = [tmp_path / f"{i:02d}.png" for i in range(11)]
    for index, file in enumerate(files):
        Image.fromarray(np.full((12, 16, 3), 10 * index, np.uint8)).save(file)
    return files


def shown(paths, count):
    source = ImageFiles(paths, paths[0].parent if paths else ".")
    images = sample_images(source, count, image_size=8, resize_size=10)
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


def test_no_readable_file_gives_no_image(paths, tmp_path):
    for path in paths:
        path.write_bytes(b"")
    assert shown(paths, 3) == []
    assert shown([], 3) == []


def test_image_is_resized_and_cropped_in_the_middle(tmp_path):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    (image,) = sample_images(ImageFiles([path], tmp_path), 1, image_size=16, resize_size=20)
    np.testing.assert_array_equal(image, center_crop(resize_short_side(read_image(path), 20), 16))
