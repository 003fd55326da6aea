"""The parts of a collection that processes share."""

from pathlib import Path

import pytest

from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.shards import Shard, in_shard, parse_shard

FILES = [ImageFile(Path(f"/photos/{i}.jpg"), str(i)) for i in range(400)]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_each_image_is_in_one_shard_and_shards_are_about_equal(count):
    parts = [in_shard(FILES, Shard(index, count)) for index in range(count)]
    assert sorted(file.path for part in parts for file in part) == sorted(f.path for f in FILES)
    assert min(map(len, parts)) > 0.6 * len(FILES) / count


def test_files_that_come_move_no_other():
    assert set(in_shard(FILES[:100], Shard(1, 3))) <= set(in_shard(FILES, Shard(1, 3)))


def test_shards_are_read():
    assert parse_shard("2/4") == Shard(2, 4)
    assert Shard(2, 4).record_name == "masks.2-of-4.jsonl"
    assert Shard().record_name == "masks.jsonl"


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "a/b", "1/", "/2", "1/2/3", "0/0"])
def test_other_shards_are_refused(text):
    with pytest.raises(ValueError, match="--shard is i/n with i from 0 to n-1"):
        parse_shard(text)
