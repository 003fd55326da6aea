import logging
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.folder import (
    EXTENSIONS,
    find_images,
    find_pairs,
    image_folder,
    masks_by_name,
    match_pairs,
    pair_name,
)
from sempart_jax.data.images import FORMATS


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_images(root)]


def test_images_are_found_in_order_of_their_path_and_hidden_ones_skipped(tmp_path):
    root = tmp_path / ".data"
    touch(root, "b.jpg", "a/z.PNG", "a/b/c.webp", "a.JPEG", "a-1.jpg", "notes.txt", "list.csv")
    touch(root, "folder.jpg/a.jpg", "._a.jpg", ".cache/b.jpg", "c/.d/e.jpg")
    found = ["a-1.jpg", "a.JPEG", "a/b/c.webp", "a/z.PNG", "b.jpg", "folder.jpg/a.jpg"]
    assert names(root) == found


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "root/z/a.jpg", "root/z/deep/b.jpg", "elsewhere/c.jpg")
    root = tmp_path / "root"
    (root / "z/up").symlink_to(root, target_is_directory=True)
    (root / "a_link").symlink_to(root / "z", target_is_directory=True)
    (root / "outside").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "linked.jpg").symlink_to(root / "z/a.jpg")
    assert names(root) == ["linked.jpg", "outside/c.jpg", "z/a.jpg", "z/deep/b.jpg"]


def test_a_root_that_is_a_link(tmp_path):
    touch(tmp_path / "real", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_images(tmp_path / "link") == [tmp_path / "link/a.jpg"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_masks_beside_the_images_of_a_benchmark_are_no_images(tmp_path, name):
    images, masks = BENCHMARKS[name].images, BENCHMARKS[name].masks
    touch(tmp_path, f"{images}/b.jpg", f"{images}/a.jpg", f"{masks}/a.png")
    found = [tmp_path / images / "a.jpg", tmp_path / images / "b.jpg"]
    assert find_images((tmp_path / images).parent) == found
    assert find_images(tmp_path / masks) == [tmp_path / masks / "a.png"]


def test_the_folder_of_the_images(tmp_path):
    touch(tmp_path, "DUTS/DUTS-TR/DUTS-TR-Image/a.jpg", "DUTS/DUTS-TE/DUTS-TE-Image/c.jpg")
    # A folder called images is not always that of ECSSD.
    touch(tmp_path, "own/images/a.jpg", "own/more/b.jpg")
    assert image_folder(tmp_path / "DUTS") == tmp_path / "DUTS/DUTS-TR/DUTS-TR-Image"
    assert image_folder(tmp_path / "own") == tmp_path / "own"
    assert names(tmp_path / "own") == ["images/a.jpg", "more/b.jpg"]


def test_missing_empty_and_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*check the path"):
        find_images(tmp_path / "nowhere")
    touch(tmp_path, "empty/readme.txt")
    with pytest.raises(FileNotFoundError, match=r"no image under .*empty.*\.webp"):
        find_images(tmp_path / "empty")
    with pytest.raises(ValueError, match="is a file"):
        find_images(tmp_path / "empty/readme.txt")


def close(monkeypatch, *folders):
    """Keep folders from being listed: nothing is forbidden to root."""
    scandir = os.scandir

    def refuse(path):
        if Path(path) in folders:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_may_not_be_listed_is_named_and_left_out(tmp_path, monkeypatch, caplog):
    touch(tmp_path, "a.jpg", "z/b.jpg", "lost+found/c.jpg", "z/closed/d.jpg")
    close(monkeypatch, tmp_path / "lost+found", tmp_path / "z/closed")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert names(tmp_path) == ["a.jpg", "z/b.jpg"]
    (line,) = caplog.messages
    assert "left out 2 folders" in line
    assert "lost+found" in line
    assert "closed (Permission denied)" in line


def test_a_root_that_may_not_be_listed_is_an_error(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg")
    close(monkeypatch, tmp_path)
    with pytest.raises(PermissionError, match=str(tmp_path)):
        find_images(tmp_path)


def test_what_segment_has_written_is_no_photograph(tmp_path, caplog):
    touch(tmp_path, "a.jpg", "b/c.jpg", "segmentation.json", "masks/a.png", "masks/b/c.png")
    touch(tmp_path, "overlays/a.jpg", "cutouts/a.png", "b/masks/d.jpg")
    with caplog.at_level(logging.WARNING, logger="absl"):
        # Folders of the same name that segment has not written are nobody's products.
        assert names(tmp_path) == ["a.jpg", "b/c.jpg", "b/masks/d.jpg"]
    assert caplog.messages == [f"left out 4 pictures under {tmp_path}, which segment has written"]
    assert names(tmp_path / "masks") == ["a.png", "b/c.png"]
    assert set(masks_by_name(tmp_path)) >= {"masks/a", "masks/b/c", "overlays/a"}
    assert len(find_images(tmp_path, products=True)) == 7


def test_pairs_by_name(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    touch(images, "b.jpg", "a.x.jpg", "c/b.png")
    touch(masks, "a.x.png", "b.png", "c/b.png", "unused.png")
    expected = [("a.x.jpg", "a.x.png"), ("b.jpg", "b.png"), ("c/b.png", "c/b.png")]
    assert find_pairs(images, masks) == [(images / i, masks / m) for i, m in expected]


def test_masks_by_their_names(tmp_path):
    touch(tmp_path, "a.x.png", "c/b.png", "c/b.jpg")
    assert masks_by_name(tmp_path) == {
        "a.x": [tmp_path / "a.x.png"],
        "c/b": [tmp_path / "c/b.jpg", tmp_path / "c/b.png"],
    }
    assert pair_name(tmp_path / "c/b.jpg", tmp_path / "c") == "b"


def test_spellings_of_one_name_meet(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    touch(tmp_path / "images", f"{composed}.jpg", f"{decomposed}/a.jpg")
    touch(tmp_path / "masks", f"{decomposed}.png", f"{composed}/a.png")
    assert len(find_pairs(tmp_path / "images", tmp_path / "masks")) == 2


def test_all_formats_that_are_read_are_found():
    extensions = Image.registered_extensions()
    # Those of floating-point pixels are read by nobody here.
    readable = {name for name, kind in extensions.items() if kind in FORMATS} - {".pfm"}
    assert readable <= set(EXTENSIONS)


def test_what_does_not_fit_is_named(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    touch(images, "a.jpg", "b.jpg", *(f"{number}.jpg" for number in range(6)))
    touch(masks, "a.png", "b.png", "b.jpg", "unused.png")
    pairs, left_out = match_pairs(images, masks)
    assert pairs == [(images / "a.jpg", masks / "a.png")]
    lacking = {images / f"{number}.jpg": "has no mask" for number in range(6)}
    assert left_out == lacking | {images / "b.jpg": "has several masks, b.jpg and b.png"}
    with pytest.raises(FileNotFoundError, match=r"7 of 8 images in .*0\.jpg has no mask") as caught:
        find_pairs(images, masks)
    assert "4.jpg has no mask and 2 more" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        match_pairs(images, tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["one file", "a copy", "a link", "a hard link"])
def test_an_image_is_no_mask_of_its_own(tmp_path, kind):
    images, masks = tmp_path / "images", tmp_path / "masks"
    touch(images, "a.jpg", "b.jpg")
    touch(masks, "b.png")
    (images / "a.jpg").write_bytes(b"one")
    (images / "b.jpg").write_bytes(b"two")
    (masks / "b.png").write_bytes(b"2nd")
    if kind == "one file":
        masks = images
    elif kind == "a copy":
        (masks / "a.png").write_bytes(b"one")
    elif kind == "a link":
        (masks / "a.png").symlink_to(images / "a.jpg")
    else:
        (masks / "a.png").hardlink_to(images / "a.jpg")
    pairs, left_out = match_pairs(images, masks)
    assert left_out[images / "a.jpg"] == "is its own mask, byte by byte"
    assert pairs == [] if kind == "one file" else [(images / "b.jpg", masks / "b.png")]
    with pytest.raises(FileNotFoundError, match=r"a\.jpg is its own mask"):
        find_pairs(images, masks)


def test_real_duts_root(reference_data):
    found = find_images(reference_data / "DUTS")
    assert found == find_images(reference_data / "DUTS/DUTS-TR/DUTS-TR-Image")
