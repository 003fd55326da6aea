"""Which mask belongs to which image, and how it is read."""

import pickle
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.image_sizes import resize
from sempart_jax.data.image_sources import MaskedSource
from sempart_jax.data.images import UnreadableImageError, read_grey, read_image
from sempart_jax.segmentation.collection import segment
from sempart_jax.segmentation.pseudo_masks import MaskedImages, open_pseudo_masks
from tests.segmentation.red_images import red_segmenter


def write(root: Path, *names: str) -> None:
    """Write images whose red, which is their mask to the segmenter, is their place in ``names``."""
    for number, name in enumerate(names):
        pixels = np.full((16, 24, 3), 60, np.uint8)
        pixels[4:12, 2 + number : 10 + number] = (255, 40, 0)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("wb") as file:
            Image.fromarray(pixels).save(file, "PNG")


def run_segment(out: Path, *arguments: Path) -> None:
    summary = segment([str(path) for path in arguments], out, red_segmenter(), outputs=["mask"])
    assert not summary.failed


def check_all_their_own(source: MaskedImages, count: int) -> None:
    """Each mask is the red of its image."""
    assert len(source.names) == count
    for index in range(count):
        image = np.asarray(source.read(index))
        mask = source.read_mask(index, *image.shape[:2])
        np.testing.assert_array_equal(mask > 127, image[..., 0] > 127, source.names[index])


NESTED = ("a.png", "b.JPG", "deep/a.png", "deep/er/c.x.webp")
CLASHING = ("a.png", "a.jpg", "A.webp", "b.png", "deep/a.jpg", "deep/a.png")


@pytest.mark.parametrize("names", [NESTED, CLASHING])
@pytest.mark.parametrize("inside", ["", "masks"])
def test_masks_of_segment(tmp_path, names, inside, caplog):
    write(tmp_path / "images", *names)
    run_segment(tmp_path / "out", tmp_path / "images")
    source = open_pseudo_masks(tmp_path / "images", tmp_path / "out" / inside)
    assert isinstance(source, MaskedSource)
    assert list(source.names) == sorted(names)
    assert source.label(0) == str(tmp_path / "images" / sorted(names)[0])
    check_all_their_own(source, len(names))
    assert not caplog.messages


def test_moved_folders_are_paired_by_names(tmp_path, caplog):
    write(tmp_path / "images", *NESTED, "e.png", "e.jpg")
    run_segment(tmp_path / "out", tmp_path / "images")
    (tmp_path / "images").rename(tmp_path / "moved")
    source = open_pseudo_masks(tmp_path / "moved", tmp_path / "out")
    check_all_their_own(source, len(NESTED))
    # Marks follow from the whole path.
    (warning,) = caplog.messages
    assert "2 of 6 images" in warning
    assert "e.jpg has no mask, e.png has no mask" in warning


def test_kept_names_and_masks_of_one_of_two(tmp_path, caplog):
    write(tmp_path / "images", "a.png", "b.png")
    run_segment(tmp_path / "out", tmp_path / "images")
    shutil.copytree(tmp_path / "out/masks", tmp_path / "copied")
    write(tmp_path / "images", "x.png", "a.jpg")
    # Without the records, nobody knows whose the mask is.
    source = open_pseudo_masks(tmp_path / "images", tmp_path / "copied")
    assert list(source.names) == ["b.png"]
    assert "3 of 4 images" in caplog.messages[0]
    # With them, an image has kept its name.
    run_segment(tmp_path / "out", tmp_path / "images")
    assert (tmp_path / "out/masks/a.png").exists()
    for inside in ("", "masks"):
        check_all_their_own(open_pseudo_masks(tmp_path / "images", tmp_path / "out" / inside), 4)


TRAINING_IMAGES = "DUTS/DUTS-TR/DUTS-TR-Image"
FOLDERS = ("DUTS", "DUTS/DUTS-TR", TRAINING_IMAGES)


def duts(root: Path) -> None:
    write(root / TRAINING_IMAGES, "a.jpg", "b.jpg")
    write(root / "DUTS", "DUTS-TR/DUTS-TR-Mask/a.png", "DUTS-TE/DUTS-TE-Image/c.jpg")


@pytest.mark.parametrize("segmented", FOLDERS)
def test_training_images_of_duts(tmp_path, segmented):
    duts(tmp_path)
    run_segment(tmp_path / "out", tmp_path / segmented)
    for opened in FOLDERS:
        check_all_their_own(open_pseudo_masks(tmp_path / opened, tmp_path / "out"), 2)
    # By names alone.
    (tmp_path / "out/masks").rename(tmp_path / "moved")
    for opened in FOLDERS if segmented == TRAINING_IMAGES else (segmented,):
        check_all_their_own(open_pseudo_masks(tmp_path / opened, tmp_path / "moved"), 2)


def test_ground_truth_of_duts(tmp_path):
    write(tmp_path / "DUTS/DUTS-TR/DUTS-TR-Image", "a.jpg", "b.jpg")
    write(tmp_path / "DUTS/DUTS-TR/DUTS-TR-Mask", "unused.png", "a.png")
    source = open_pseudo_masks(tmp_path / "DUTS", tmp_path / "DUTS/DUTS-TR/DUTS-TR-Mask")
    assert list(source.names) == ["DUTS-TR/DUTS-TR-Image/a.jpg"]


def test_masks_of_other_origin(tmp_path, caplog):
    write(tmp_path / "images", "A.jpg", "a.jpg", "b.jpg", *(f"{number}.jpg" for number in range(7)))
    write(tmp_path / "masks", "a.png", "A.png", "b.png", "b.webp", "unused.png")
    source = open_pseudo_masks(tmp_path / "images", tmp_path / "masks")
    assert list(source.names) == ["A.jpg", "a.jpg"]
    for index, mask in enumerate(["A.png", "a.png"]):
        expected = read_grey(tmp_path / "masks" / mask)
        np.testing.assert_array_equal(source.read_mask(index, 16, 24), expected)
    (warning,) = [line for line in caplog.messages if "left out" in line]
    assert f"8 of 10 images in {tmp_path}/images are left out: 0.jpg has no mask" in warning
    assert warning.endswith("and 3 more")
    write(tmp_path / "images", "b.jpg")
    for number in range(7):
        (tmp_path / f"images/{number}.jpg").unlink()
    open_pseudo_masks(tmp_path / "images", tmp_path / "masks")
    assert "b.jpg has several masks, b.png and b.webp" in caplog.messages[-1]


def test_masks_are_resized_named_where_damaged_and_go_to_other_processes(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    write(images, "a.png", "b.png")
    write(masks, "b.png")
    grey = np.random.default_rng(0).integers(0, 256, (8, 12), dtype=np.uint8)
    Image.fromarray(grey).save(masks / "a.png")
    source = pickle.loads(pickle.dumps(open_pseudo_masks(images, masks)))
    np.testing.assert_array_equal(source.read(1), read_image(images / "b.png"))
    np.testing.assert_array_equal(source.read_mask(0, 8, 12), grey)
    mask = source.read_mask(0, 16, 24)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, resize(grey, 16, 24))
    # The fingerprint follows the content of the masks alone.
    before = source.mask_fingerprint()
    shutil.copytree(masks, tmp_path / "moved")
    assert open_pseudo_masks(images, tmp_path / "moved").mask_fingerprint() == before
    (masks / "a.png").write_bytes(b"no image")
    damaged = source.mask_fingerprint()
    with pytest.raises(UnreadableImageError) as caught:
        source.read_mask(0, 16, 24)
    assert caught.value.path == str(masks / "a.png")
    (masks / "a.png").unlink()
    assert len({before, damaged, source.mask_fingerprint()}) == 3
    write(tmp_path / "swapped", "b.png", "a.png")
    write(masks, "a.png", "b.png")
    swapped = open_pseudo_masks(images, tmp_path / "swapped").mask_fingerprint()
    assert swapped != source.mask_fingerprint()


def test_no_mask_at_all(tmp_path):
    write(tmp_path / "images", *(f"{number}.jpg" for number in range(7)))
    write(tmp_path / "masks", "x.png")
    with pytest.raises(
        FileNotFoundError, match=r"none of the 7 images .*sempart_jax\.segment"
    ) as e:
        open_pseudo_masks(tmp_path / "images", tmp_path / "masks")
    assert "0.jpg has no mask, 1.jpg has no mask, " in str(e.value)
    assert "4.jpg has no mask and 2 more" in str(e.value)


def test_images_are_not_masks_of_their_own(tmp_path, caplog):
    write(tmp_path / "images", "a.png", "b.png")
    shutil.copytree(tmp_path / "images", tmp_path / "copies")
    with pytest.raises(FileNotFoundError, match=r"none of the 2 images .*a\.png is its own mask"):
        open_pseudo_masks(tmp_path / "images", tmp_path / "copies")
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(tmp_path / "copies/b.png")
    source = open_pseudo_masks(tmp_path / "images", tmp_path / "copies")
    assert list(source.names) == ["b.png"]
    assert "1 of 2 images" in caplog.messages[0]
    assert "a.png is its own mask" in caplog.messages[0]


def test_masks_without_foreground_are_refused(tmp_path):
    write(tmp_path / "images", "a.png", "b.png")
    (tmp_path / "masks").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((16, 24), np.uint8)).save(tmp_path / "masks" / name)
    with pytest.raises(ValueError, match="none of the 2 masks that can be read has foreground"):
        open_pseudo_masks(tmp_path / "images", tmp_path / "masks")


def test_folders_that_are_none(tmp_path):
    write(tmp_path / "images", "a.png")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_pseudo_masks(tmp_path / "images", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_pseudo_masks(tmp_path / "nowhere", tmp_path / "images")
    with pytest.raises(ValueError, match="the images themselves"):
        open_pseudo_masks(tmp_path / "images", tmp_path / "images")
    duts(tmp_path)
    with pytest.raises(ValueError, match="the images themselves"):
        open_pseudo_masks(tmp_path / TRAINING_IMAGES, tmp_path / "DUTS")
    segment([str(tmp_path / "images")], tmp_path / "out", red_segmenter(), outputs=["overlay"])
    with pytest.raises(FileNotFoundError, match=r"no masks to .*mask among --outputs"):
        open_pseudo_masks(tmp_path / "images", tmp_path / "out")


def test_spellings_of_one_name_meet(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    write(tmp_path / "images", f"{composed}.png", f"{decomposed}/a.png")
    # As a copy by way of macOS has them.
    for name in (f"{decomposed}.png", f"{composed}/a.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(tmp_path / "masks" / name)
    assert len(open_pseudo_masks(tmp_path / "images", tmp_path / "masks").names) == 2
    run_segment(tmp_path / "out", tmp_path / "images")
    check_all_their_own(open_pseudo_masks(tmp_path / "images", tmp_path / "out"), 2)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_masks_of_images_before_their_rotation(tmp_path, orientation, caplog):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (24, 16), (255, 40, 0)).save(tmp_path / "images/a.jpg", exif=exif)
    Image.new("L", (24, 16), 255).save(tmp_path / "masks/a.png")
    with caplog.at_level("WARNING", logger="absl"):
        source = open_pseudo_masks(tmp_path / "images", tmp_path / "masks")
    turned = "a.jpg is turned by its EXIF orientation 3, which its size does not show"
    assert (turned in caplog.text) == (orientation == 3)
    image = source.read(0)
    if orientation == 6:
        with pytest.raises(UnreadableImageError, match=r"24x16 pixels and its image 16x24, which"):
            source.read_mask(0, image.height, image.width)
    else:
        assert source.read_mask(0, image.height, image.width).shape == (16, 24)
