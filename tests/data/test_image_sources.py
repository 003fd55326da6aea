"""Images by random access, and the few of them that a run is watched by."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.builders import prepare
from sempart_jax.data.image_sizes import center_crop, resize, resize_short_side
from sempart_jax.data.image_sources import (
    ImageFiles,
    MaskedSource,
    open_images,
    read_pair,
    read_samples,
)
from sempart_jax.data.images import UnreadableImageError, read_grey, read_image
from sempart_jax.segmentation.pseudo_masks import MaskedImages
from tests.commands import REPOSITORY
from tests.data.labelled_files import encode, photo, write_unpacked


def test_a_folder_of_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.png").write_bytes(encode(photo(1)))
    (tmp_path / "a.png").write_bytes(b"no image")
    source = open_images(tmp_path)
    assert list(source.names) == ["a.png", "deep/b.png"]
    assert source.label(1) == str(tmp_path / "deep/b.png")
    np.testing.assert_array_equal(np.asarray(source.read(1)), photo(1))
    with pytest.raises(UnreadableImageError) as caught:
        source.read(0)
    assert caught.value.path == source.label(0)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_images(tmp_path / "nowhere")


def picture(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


OBJECT = np.kron(np.eye(2), np.ones((20, 30))).astype(np.uint8)
PALETTE = Image.fromarray(OBJECT)
PALETTE.putpalette([0, 0, 0, 128, 0, 0])


@pytest.mark.parametrize(
    ("images", "masks", "mask", "grey_images"),
    [
        ("images", ["masks"], OBJECT * 255, False),
        ("images", ["masks"], OBJECT, True),
        ("a/photos", ["a/gt"], photo(2, 40, 60)[..., 0], False),
        (".", ["masks"], OBJECT * 255, False),
        ("VOC2012/JPEGImages", ["VOC2012/SegmentationClass", "VOC2012/SegmentationObject"],
         np.asarray(PALETTE.convert("RGB")), False),
    ],
)  # fmt: skip
def test_folders_of_masks_beside_images_are_left_out(
    tmp_path, caplog, images, masks, mask, grey_images
):
    for seed in range(3):
        pixels = photo(seed, 40, 60)
        picture(tmp_path / images / f"{seed}.jpg", pixels[..., 0] if grey_images else pixels)
        for folder in masks:
            picture(tmp_path / folder / f"{seed}.png", mask)
    source = open_images(tmp_path)
    expected = [(tmp_path / images / f"{seed}.jpg").relative_to(tmp_path) for seed in range(3)]
    assert list(source.names) == [path.as_posix() for path in expected]
    (line,) = caplog.messages
    assert f"left out {3 * len(masks)} pictures that look like masks" in line
    for folder in masks:
        assert str(tmp_path / folder) in line
        # Whoever names their folder wants them.
        assert len(open_images(tmp_path / folder).names) == 3


def test_photographs_of_the_same_names_are_all_trained_on(tmp_path, caplog):
    for folder in ("cats", "masks"):
        for seed in range(3):
            picture(tmp_path / folder / f"{seed}.jpg", photo(seed, 40, 60))
    # Nor are a few drawings among photographs of other names a folder of masks.
    picture(tmp_path / "cats/drawing.png", OBJECT * 255)
    picture(tmp_path / "drawings/drawing.png", OBJECT * 255)
    picture(tmp_path / "drawings/0.png", OBJECT * 255)
    picture(tmp_path / "drawings/x.png", OBJECT * 255)
    picture(tmp_path / "drawings/y.png", OBJECT * 255)
    assert len(open_images(tmp_path).names) == 11
    assert not caplog.messages


def test_files_lie_under_their_root(tmp_path):
    with pytest.raises(ValueError, match="elsewhere"):
        ImageFiles([tmp_path / "a.jpg"], tmp_path / "elsewhere")


@pytest.mark.parametrize("inside", ["", "1.0.0"])
def test_a_prepared_data_set(tmp_path, inside):
    write_unpacked("duts_tr", tmp_path, ["b", "a"])
    write_unpacked("duts_te", tmp_path, ["c"])
    prepare("duts", tmp_path, download=False)
    source = open_images(tmp_path / "tfds/duts" / inside)
    assert not isinstance(source, MaskedSource)
    assert list(source.names) == ["a", "b"]
    assert source.label(1) == f"{tmp_path}/tfds/duts/1.0.0/train/b/image"
    for images in (source, pickle.loads(pickle.dumps(source))):
        for index, name in enumerate("ab"):
            expected = read_image(tmp_path / f"DUTS/DUTS-TR/DUTS-TR-Image/{name}.jpg")
            np.testing.assert_array_equal(np.asarray(images.read(index)), expected)


def test_the_only_split_is_taken(prepared):
    assert list(open_images(prepared / "tfds/ecssd").names) == ["a", "b", "c", "d"]


READ = """
import sys
from sempart_jax.data.image_sources import open_images
print(len(open_images(sys.argv[1]).names), "tensorflow_datasets" in sys.modules)
"""


def test_files_need_no_dataset_library(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(photo()))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1 False\n", done.stderr


@pytest.fixture
def pairs(tmp_path):
    """Eleven images, of which image ``i`` is plain and has the value ``10 i``; random masks."""
    (tmp_path / "masks").mkdir()
    pairs = [(tmp_path / f"{i:02d}.png", tmp_path / f"masks/{i:02d}.png") for i in range(11)]
    for index, (image, mask) in enumerate(pairs):
        image.write_bytes(encode(np.full((12, 16, 3), 10 * index, np.uint8)))
        mask.write_bytes(encode(photo(index, 12, 16)[..., 0]))
    return pairs


def files(pairs) -> ImageFiles:
    return ImageFiles([image for image, _ in pairs], pairs[0][0].parent if pairs else ".")


def test_masks_are_read_where_there_are_some(pairs, tmp_path):
    image, mask = read_pair(MaskedImages(pairs, tmp_path), 1)
    assert (image.mode, mask.mode) == ("RGB", "L")
    np.testing.assert_array_equal(np.asarray(mask), read_grey(pairs[1][1]))
    assert read_pair(files(pairs), 1)[1] is None


def shown(source, count):
    images = read_samples(source, count, image_size=8, resize_size=10).image
    assert images.shape[1:] == (8, 8, 3)
    assert images.dtype == np.uint8
    return (images[:, 4, 4, 0] // 10).tolist()


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [0]), (2, [0, 5]), (4, [0, 2, 5, 8]), (99, list(range(11)))],
)
def test_samples_are_spread_over_the_data_set(pairs, count, expected):
    assert shown(files(pairs), count) == expected


def test_unreadable_samples_and_strips_are_replaced_by_others(pairs):
    pairs[0][0].write_bytes(b"no image")
    pairs[5][0].unlink()
    Image.new("RGB", (1, 2000)).save(pairs[1][0])
    assert shown(files(pairs), 2) == [2, 3]
    assert shown(files(pairs), 11) == [2, 3, 4, 6, 7, 8, 9, 10]
    for image, _ in pairs:
        image.write_bytes(b"")
    assert shown(files(pairs), 3) == shown(files([]), 3) == []


def test_samples_are_resized_and_cropped_in_the_middle_with_their_masks(pairs, tmp_path):
    pairs[0][1].write_bytes(b"no image")
    pairs[5][0].write_bytes(encode(photo(5, 12, 16)))
    sizes = {"image_size": 8, "resize_size": 10}
    samples = read_samples(MaskedImages(pairs, tmp_path), 4, **sizes)
    # Those that can be read of 0, 2, 5 and 8, and the first other.
    numbers = [2, 5, 8, 1]
    assert len(samples.image) == len(samples.mask) == 4
    assert samples.mask.dtype == np.uint8
    for number, image, mask in zip(numbers, *samples, strict=True):
        whole, whole_mask = read_image(pairs[number][0]), read_grey(pairs[number][1])
        np.testing.assert_array_equal(image, center_crop(resize_short_side(whole, 10), 8))
        np.testing.assert_array_equal(mask, center_crop(resize_short_side(whole_mask, 10), 8))
    assert read_samples(files(pairs), 3, **sizes).mask is None
    (squeezed,) = read_samples(files(pairs[2:3]), 1, image_size=8, resize_size=None).image
    np.testing.assert_array_equal(squeezed, resize(read_image(pairs[2][0]), 8, 8))
    for _, mask in pairs:
        mask.unlink()
    image, mask = read_samples(MaskedImages(pairs, tmp_path), 3, **sizes)
    assert (image.shape, mask.shape) == ((0, 8, 8, 3), (0, 8, 8))
