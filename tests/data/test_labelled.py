import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from PIL import Image

from sempart_jax.data.builders import prepare
from sempart_jax.data.folder import BENCHMARKS, find_pairs
from sempart_jax.data.images import UnreadableImageError, read_grey, read_image
from sempart_jax.data.labelled import (
    LabelledFolder,
    PreparedSet,
    open_labelled_set,
    prepared_folder,
    prepared_splits,
)
from tests.commands import REPOSITORY
from tests.data.labelled_files import ORIENTATION, encode, photo, write_unpacked

STEMS = ["d", "a", "c", "b"]


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A data root where ECSSD is prepared and nothing else is."""
    write_unpacked("ecssd", tmp_path / "files", STEMS)
    prepare("ecssd", tmp_path / "root", manual_dir=tmp_path / "files", download=False)
    return tmp_path / "root"


def labelled_folder(root: Path, image: bytes, mask: bytes) -> LabelledFolder:
    (root / "a.jpg").write_bytes(image)
    (root / "mask.png").write_bytes(mask)
    return LabelledFolder([(root / "a.jpg", root / "mask.png")])


def warned(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    return lines


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


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside(prepared, tmp_path, index):
    for labelled in (open_labelled_set("ecssd", root) for root in (prepared, tmp_path / "files")):
        with pytest.raises(IndexError, match=rf"index {index} is not in 0\.\.3"):
            labelled[index]


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


def test_prepared_and_unpacked_are_the_same(prepared, tmp_path):
    labelled = open_labelled_set("ecssd", prepared)
    files = open_labelled_set("ecssd", tmp_path / "files")
    assert isinstance(labelled, PreparedSet)
    assert isinstance(files, LabelledFolder)
    assert list(labelled.names) == list(files.names) == ["a", "b", "c", "d"]
    assert labelled.published_images == files.published_images == 1000
    for index in (3, 0, 2, 1):
        for ours, theirs in zip(labelled[index], files[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_bytes_of_an_image(prepared, tmp_path):
    labelled = PreparedSet(prepared / "tfds/ecssd/1.0.0", "test")
    data = (tmp_path / "files/ECSSD/images/c.jpg").read_bytes()
    assert labelled.published_images is None
    assert labelled.image_bytes(2) == data
    with pytest.raises(IndexError):
        labelled.image_bytes(4)


def test_a_prepared_set_is_read_by_threads_and_by_other_processes(prepared):
    labelled = open_labelled_set("ecssd", prepared)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(labelled.__getitem__, [0, 1, 2, 3] * 20))
    assert [item.name for item in read] == ["a", "b", "c", "d"] * 20
    again = pickle.loads(pickle.dumps(labelled))
    np.testing.assert_array_equal(again[1].image, labelled[1].image)


def test_what_is_prepared_comes_before_what_is_unpacked(prepared):
    write_unpacked("ecssd", prepared, ["z"])
    assert list(open_labelled_set("ecssd", prepared).names) == ["a", "b", "c", "d"]


def test_an_unpacked_split_beside_another_that_is_prepared(tmp_path):
    write_unpacked("duts_te", tmp_path, ["a"])
    prepare("duts", tmp_path, download=False)
    write_unpacked("duts_tr", tmp_path, ["b", "c"])
    assert isinstance(open_labelled_set("duts_te", tmp_path), PreparedSet)
    assert isinstance(open_labelled_set("duts_tr", tmp_path), LabelledFolder)
    with pytest.raises(ValueError, match="holds no split train, but test"):
        PreparedSet(tmp_path / "tfds/duts/1.0.0", "train")


def test_images_without_mask_are_left_out_with_one_warning(tmp_path, monkeypatch):
    lines = warned(monkeypatch)
    write_unpacked("duts_te", tmp_path, [f"{number}" for number in range(9)])
    for number in range(1, 8):
        (tmp_path / BENCHMARKS["duts_te"].masks / f"{number}.png").unlink()
    assert list(open_labelled_set("duts_te", tmp_path).names) == ["0", "8"]
    (line,) = lines
    assert "duts_te: left out 7 images: 1.jpg has no mask, 2.jpg has no mask" in line
    assert line.endswith("and 2 more")


def test_no_pair_at_all_is_refused(tmp_path):
    write_unpacked("duts_te", tmp_path, ["a"])
    masks = tmp_path / BENCHMARKS["duts_te"].masks
    (masks / "a.png").rename(masks / "b.png")
    with pytest.raises(FileNotFoundError, match=r"no image in .* has one mask.*a\.jpg has no mask"):
        open_labelled_set("duts_te", tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_benchmark_tells_the_command(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        open_labelled_set(name, tmp_path)
    text = str(caught.value)
    assert f"python scripts/prepare_data.py {name} --data_root {tmp_path}" in text
    assert str(tmp_path / "tfds" / BENCHMARKS[name].prepared) in text
    assert str(tmp_path / BENCHMARKS[name].images) in text


def test_an_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"'voc'.*duts_tr, duts_te, dut_omron, ecssd"):
        open_labelled_set("voc", tmp_path)


def test_the_newest_version_is_taken(prepared):
    folder = prepared / "tfds/ecssd"
    for version in ("9.0.0", "10.0.0"):
        shutil.copytree(folder / "1.0.0", folder / version)
    (folder / "11.0.0").mkdir()
    (folder / "incomplete.ABC_12.0.0").mkdir()
    assert prepared_folder("ecssd", prepared) == folder / "10.0.0"
    assert prepared_folder("duts", prepared) is None
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
    with pytest.raises(UnreadableImageError, match=r"test/c: .*this is the record of b"):
        labelled[1]


def test_a_shard_that_is_gone_is_named(prepared):
    (shard,) = (prepared / "tfds/ecssd/1.0.0").glob("*array_record*")
    shard.unlink()
    with pytest.raises(UnreadableImageError, match=r"ecssd/1\.0\.0/test/a: .*prepare the data set"):
        open_labelled_set("ecssd", prepared)[0]


READ = """
import sys
from sempart_jax.data.labelled import open_labelled_set
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
