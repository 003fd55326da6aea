"""Images and ground truths, of files and prepared: kinds of masks, sizes, rotation, damage."""

import io
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.benchmarks import BENCHMARKS, open_labelled_set
from sempart_jax.data.folder import find_pairs
from sempart_jax.data.images import UnreadableImageError, read_grey, read_image
from sempart_jax.data.labelled import LabelledFolder, PreparedSet, newest_version, prepared_splits
from tests.commands import REPOSITORY
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
    palette = io.BytesIO()
    adaptive = {"palette": Image.Palette.ADAPTIVE, "colors": 256}
    Image.fromarray(grey).convert("P", **adaptive).save(palette, "PNG")
    stored = [
        encode(grey),
        encode(np.repeat(grey[..., None], 3, axis=-1)),
        palette.getvalue(),
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
    with pytest.raises(UnreadableImageError, match="the mask has 6x9 pixels") as caught:
        labelled[0]
    assert caught.value.path == str(tmp_path / "mask.png")
    assert f"{tmp_path / 'a.jpg'} has 9x6: replace one of them" in str(caught.value)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(("orientation", "height"), [(1, 6), (3, 6), (6, 6), (6, 9)])
def test_masks_drawn_before_the_rotation(tmp_path, orientation, height, stored, caplog):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray(photo(0, height)).save(image, exif=exif)
    # Drawn on the stored pixels; or so, and turned as the image is.
    Image.fromarray(photo(0, height)[..., 0]).save(mask, exif=exif if stored else None)
    labelled = LabelledFolder([(image, mask)])
    with caplog.at_level("WARNING", logger="absl"):
        if (orientation, height, stored) == (6, 6, False):
            with pytest.raises(UnreadableImageError, match=r"fit only before .* EXIF orientation"):
                labelled[0]
        else:
            read = [labelled[0] for _ in range(2)]
            assert read[0].ground_truth.shape == read[0].image.shape[:2]
    hidden = not stored and (orientation, height) in ((3, 6), (6, 9))
    assert len(caplog.messages) == hidden
    if hidden:
        assert f"a.png is turned by its EXIF orientation {orientation}" in caplog.text


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


def test_an_index_outside(prepared, tmp_path):
    for labelled in (open_labelled_set("ecssd", root) for root in (prepared, tmp_path / "files")):
        for read in (labelled.__getitem__, labelled.pixels):
            with pytest.raises(IndexError):
                read(4)


def test_a_prepared_set_is_read_by_threads_and_by_other_processes(prepared):
    labelled = open_labelled_set("ecssd", prepared)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(labelled.__getitem__, [0, 1, 2, 3] * 20))
    assert [item.name for item in read] == ["a", "b", "c", "d"] * 20
    again = pickle.loads(pickle.dumps(labelled))
    np.testing.assert_array_equal(again[1].image, labelled[1].image)
    assert [again.pixels(index) for index in range(4)] == [photo()[..., 0].size] * 4


def test_the_newest_version_is_taken(prepared):
    folder = prepared / "tfds/ecssd"
    for version in ("9.0.0", "10.0.0"):
        shutil.copytree(folder / "1.0.0", folder / version)
    (folder / "11.0.0").mkdir()
    (folder / "incomplete.ABC_12.0.0").mkdir()
    assert newest_version(folder) == folder / "10.0.0"
    assert newest_version(prepared / "tfds/duts") is None
    assert prepared_splits(folder / "10.0.0") == {"test": 4}


@pytest.mark.parametrize("file", ["dataset_info.json", "metadata.json", "features.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_prepared_set_says_how_to_mend_it(prepared, file, damage):
    path = prepared / "tfds/ecssd/1.0.0" / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text()[:20] if damage == "cut" else "[]")
    with pytest.raises(ValueError, match="prepare it again"):
        PreparedSet(path.parent, "test")


def test_names_that_are_not_those_of_the_records(prepared):
    path = prepared / "tfds/ecssd/1.0.0/metadata.json"
    path.write_text('{"test": ["a", "b", "c"]}')
    with pytest.raises(ValueError, match=r"3 names, 4 records.*prepare it again"):
        open_labelled_set("ecssd", prepared)
    path.write_text('{"test": ["a", "c", "b", "d"]}')
    labelled = open_labelled_set("ecssd", prepared)
    assert labelled[3].name == "d"
    with pytest.raises(UnreadableImageError, match=r"test/c/image: .*this is the record of b"):
        labelled[1]


def test_a_shard_that_is_gone_is_named(prepared):
    (shard,) = (prepared / "tfds/ecssd/1.0.0").glob("*array_record*")
    shard.unlink()
    labelled = open_labelled_set("ecssd", prepared)
    assert labelled.pixels(0) == 0
    with pytest.raises(UnreadableImageError, match=r"1\.0\.0/test/a/image: .*prepare the data set"):
        labelled[0]


READ = """
import sys
from sempart_jax.data.benchmarks import open_labelled_set
assert "tensorflow_datasets" not in sys.modules
labelled = open_labelled_set("ecssd", sys.argv[1])
print(labelled[2].name, "tensorflow" in sys.modules)
"""


def test_reading_needs_no_tensorflow(prepared, tmp_path):
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "tensorflow.py").write_text("raise RuntimeError('TensorFlow was imported')")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, str(prepared)],
        env={"PYTHONPATH": f"{trap}:{REPOSITORY}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "c False\n", done.stderr
