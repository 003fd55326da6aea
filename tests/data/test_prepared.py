"""What is prepared comes back, wherever it is read, and says when it is damaged."""

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sempart_jax.data.benchmarks import open_labelled_set
from sempart_jax.data.images import UnreadableImageError
from sempart_jax.data.prepared import PreparedSet, prepared_folder, prepared_splits
from tests.commands import REPOSITORY


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside(prepared, tmp_path, index):
    for labelled in (open_labelled_set("ecssd", root) for root in (prepared, tmp_path / "files")):
        with pytest.raises(IndexError, match=rf"index {index} is not in 0\.\.3"):
            labelled[index]


def test_pixels_of_an_image_are_known_before_it_is_decoded(prepared):
    labelled = open_labelled_set("ecssd", prepared)
    for index in range(len(labelled)):
        assert labelled.pixels(index) == labelled[index].ground_truth.size


def test_a_prepared_set_is_read_by_threads_and_by_other_processes(prepared):
    labelled = open_labelled_set("ecssd", prepared)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(labelled.__getitem__, [0, 1, 2, 3] * 20))
    assert [item.name for item in read] == ["a", "b", "c", "d"] * 20
    again = pickle.loads(pickle.dumps(labelled))
    np.testing.assert_array_equal(again[1].image, labelled[1].image)


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
    with pytest.raises(UnreadableImageError, match=r"test/c/image: .*this is the record of b"):
        labelled[1]


def test_a_shard_that_is_gone_is_named(prepared):
    (shard,) = (prepared / "tfds/ecssd/1.0.0").glob("*array_record*")
    shard.unlink()
    assert open_labelled_set("ecssd", prepared).pixels(0) == 0
    with pytest.raises(
        UnreadableImageError, match=r"ecssd/1\.0\.0/test/a/image: .*prepare the data set"
    ):
        open_labelled_set("ecssd", prepared)[0]


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
