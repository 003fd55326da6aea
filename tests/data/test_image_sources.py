import pickle
import subprocess
import sys

import numpy as np
import pytest

from sempart_jax.data.builders import prepare
from sempart_jax.data.image_sources import (
    ImageFiles,
    MaskedSource,
    PillowSource,
    PreparedImages,
    open_images,
    read_with_mask,
)
from sempart_jax.data.images import UnreadableImageError, read_image
from tests.commands import REPOSITORY
from tests.data.labelled_files import encode, photo, write_unpacked


def test_a_folder_of_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.png").write_bytes(encode(photo(1)))
    (tmp_path / "a.png").write_bytes(b"no image")
    source = open_images(tmp_path)
    assert isinstance(source, ImageFiles)
    assert list(source.names) == ["a.png", "deep/b.png"]
    assert source.label(1) == str(tmp_path / "deep/b.png")
    np.testing.assert_array_equal(source.read(1), photo(1))
    assert source.read(1).flags.writeable
    assert isinstance(source, PillowSource)
    np.testing.assert_array_equal(np.asarray(source.read_pillow(1)), photo(1))
    with pytest.raises(UnreadableImageError) as caught:
        source.read(0)
    assert caught.value.path == source.label(0)


def test_files_lie_under_their_root(tmp_path):
    with pytest.raises(ValueError, match="elsewhere"):
        ImageFiles([tmp_path / "a.jpg"], tmp_path / "elsewhere")


@pytest.mark.parametrize("inside", ["", "1.0.0"])
def test_a_prepared_data_set(tmp_path, inside):
    write_unpacked("duts_tr", tmp_path, ["b", "a"])
    write_unpacked("duts_te", tmp_path, ["c"])
    prepare("duts", tmp_path, download=False)
    source = open_images(tmp_path / "tfds/duts" / inside)
    assert isinstance(source, PreparedImages)
    assert list(source.names) == ["a", "b"]
    assert source.label(1) == f"{tmp_path}/tfds/duts/1.0.0/train/b/image"
    again = pickle.loads(pickle.dumps(source))
    for index, name in enumerate("ab"):
        expected = read_image(tmp_path / f"DUTS/DUTS-TR/DUTS-TR-Image/{name}.jpg")
        np.testing.assert_array_equal(source.read(index), expected)
        np.testing.assert_array_equal(again.read(index), expected)
        np.testing.assert_array_equal(np.asarray(again.read_pillow(index)), expected)


def test_the_only_split_is_taken(tmp_path):
    write_unpacked("ecssd", tmp_path, ["a"])
    prepare("ecssd", tmp_path, download=False)
    assert list(open_images(tmp_path / "tfds/ecssd").names) == ["a"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        open_images(tmp_path / "nowhere")


class Masked(ImageFiles):
    def read_mask(self, index, height, width):
        return np.full((height, width), index, np.uint8)


def test_masks_are_read_where_there_are_some(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(photo(1)))
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    source, without = Masked(paths, tmp_path), ImageFiles(paths, tmp_path)
    assert isinstance(source, MaskedSource)
    assert not isinstance(without, MaskedSource)
    image, mask = read_with_mask(source, 1)
    np.testing.assert_array_equal(image, photo(1))
    np.testing.assert_array_equal(mask, np.ones(image.shape[:2]))
    image, mask = read_with_mask(without, 1)
    np.testing.assert_array_equal(image, photo(1))
    assert mask is None


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
