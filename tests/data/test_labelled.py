"""Images and ground truths of files: kinds of masks, sizes, rotation, damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.folder import find_pairs
from sempart_jax.data.images import UnreadableImageError, read_grey, read_image
from sempart_jax.data.labelled import LabelledFolder
from tests.data.labelled_files import ORIENTATION, STEMS, encode, photo, write_unpacked


def labelled_folder(root: Path, image: bytes, mask: bytes) -> LabelledFolder:
    (root / "a.jpg").write_bytes(image)
    (root / "mask.png").write_bytes(mask)
    return LabelledFolder([(root / "a.jpg", root / "mask.png")])


def test_a_folder_by_random_access(tmp_path):
    write_unpacked("ecssd", tmp_path, STEMS)
    images, masks = tmp_path / BENCHMARKS["ecssd"].images, tmp_path / BENCHMARKS["ecssd"].masks
    labelled = LabelledFolder(find_pairs(images, masks)[::-1], published_images=1000)
    assert list(labelled.names) == ["a", "b", "c", "d"]
    assert (len(labelled), labelled.published_images) == (4, 1000)
    for index in (2, 0, 3, 1):
        name, image, ground_truth = labelled[index]
        assert name == labelled.names[index]
        np.testing.assert_array_equal(image, read_image(images / f"{name}.jpg"))
        np.testing.assert_array_equal(ground_truth, read_grey(masks / f"{name}.png"))
    assert labelled[0].ground_truth.dtype == np.uint8


def test_grey_rgb_palette_and_sixteen_bit_masks_are_one(tmp_path):
    grey = photo()[..., 0]
    palette = Image.fromarray(grey).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    palette.save(tmp_path / "palette.png")
    stored = [
        encode(grey),
        encode(np.repeat(grey[..., None], 3, axis=-1)),
        (tmp_path / "palette.png").read_bytes(),
        encode(grey.astype(np.uint16) * 257),
    ]
    for mask in stored:
        labelled = labelled_folder(tmp_path, encode(photo()), mask)
        np.testing.assert_array_equal(labelled[0].ground_truth, grey)


def test_a_rotated_image_with_an_upright_mask(tmp_path):
    upright = photo(height=6, width=9)
    exif = Image.Exif()
    # EXIF 2.32: the first row of what is stored is the right side of the upright image.
    exif[ORIENTATION] = 6
    stored = np.ascontiguousarray(upright[:, ::-1].swapaxes(0, 1))
    labelled = labelled_folder(tmp_path, encode(stored, exif=exif), encode(upright[..., 0]))
    np.testing.assert_array_equal(labelled[0].image, upright)
    np.testing.assert_array_equal(labelled[0].ground_truth, upright[..., 0])
    labelled = labelled_folder(tmp_path, encode(stored, exif=exif), encode(stored[..., 0]))
    with pytest.raises(UnreadableImageError, match=r"6x9 pixels .* 9x6"):
        labelled[0]


def test_a_cmyk_image(tmp_path):
    ink = np.zeros((6, 9, 4), np.uint8)
    ink[..., 1] = 255
    Image.fromarray(ink, "CMYK").save(tmp_path / "x.jpg", quality=100)
    data = (tmp_path / "x.jpg").read_bytes()
    labelled = labelled_folder(tmp_path, data, encode(photo()[..., 0]))
    assert np.abs(labelled[0].image.astype(int) - [255, 0, 255]).max() <= 2


@pytest.mark.parametrize("mask_size", [(6, 10), (9, 6)])
def test_a_mask_of_another_size_is_named_with_its_image(tmp_path, mask_size):
    labelled = labelled_folder(tmp_path, encode(photo()), encode(np.zeros(mask_size, np.uint8)))
    with pytest.raises(UnreadableImageError) as caught:
        labelled[0]
    height, width = mask_size
    assert caught.value.path == str(tmp_path / "mask.png")
    assert f"the mask has {width}x{height} pixels" in str(caught.value)
    assert f"{tmp_path / 'a.jpg'} has 9x6: replace one of them" in str(caught.value)


@pytest.mark.parametrize("broken", ["a.jpg", "mask.png"])
def test_an_unreadable_file_is_named(tmp_path, broken):
    labelled = labelled_folder(tmp_path, encode(photo()), encode(photo()[..., 0]))
    (tmp_path / broken).write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match="not an image") as caught:
        labelled[0]
    assert caught.value.path == str(tmp_path / broken)


def test_the_larger_of_both_files_counts_and_an_unreadable_one_does_not(tmp_path):
    labelled = labelled_folder(tmp_path, encode(photo()), encode(np.zeros((90, 10), np.uint8)))
    assert labelled.pixels(0) == 900
    (tmp_path / "mask.png").unlink()
    assert labelled.pixels(0) == photo()[..., 0].size
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert labelled.pixels(0) == 0
