"""Records of finished images."""

import json
import os
from pathlib import Path

import pytest

from sempart_jax.segmentation.inputs import Shard
from sempart_jax.segmentation.records import RecordFile, drop_records, is_done, read_records


def record(name, **fields):
    return {"image": f"/photos/{name}", "name": name, "stamp": "1 2", "settings": "s", **fields}


def write(root, shard, *records, kept=()):
    with RecordFile(root / shard.record_name, kept) as file:
        for line in records:
            file.add(line)


def test_records_of_all_processes_are_found_and_those_of_one(tmp_path):
    odd = os.fsdecode(b"caf\xe9\n")
    write(tmp_path, Shard(), record("a"), record(odd))
    write(tmp_path, Shard(0, 2), record("b"))
    write(tmp_path, Shard(1, 2), record("a", stamp="3 4"))
    assert read_records(tmp_path) == {
        Path("/photos/a"): [record("a", stamp="3 4"), record("a")],
        Path("/photos/b"): [record("b")],
        Path(f"/photos/{odd}"): [record(odd)],
    }
    assert read_records(tmp_path, "masks.0-of-2.jsonl") == {Path("/photos/b"): [record("b")]}
    assert read_records(tmp_path, "masks.2-of-3.jsonl") == {}
    assert len((tmp_path / "masks.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_mended(tmp_path, cut):
    write(tmp_path, Shard(), record("a"), record("b"))
    path = tmp_path / "masks.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    kept = [lines[-1] for lines in read_records(tmp_path).values()]
    assert kept == ([record("a")] if cut > 1 else [record("a"), record("b")])
    write(tmp_path, Shard(), record("c"), kept=kept)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*kept, record("c")]


def test_lines_that_are_no_records_are_left_out_and_named(tmp_path, caplog):
    path = tmp_path / "masks.jsonl"
    wrong = [5, [], {"image": 5}, record("b") | {"image": 5}, record("c") | {"stamp": None}]
    lines = [json.dumps(line).encode() for line in [*wrong, record("a")]]
    path.write_bytes(b"\n".join([*lines, b"\xff", b"\0" * 20]))
    assert read_records(tmp_path) == {Path("/photos/a"): [record("a")]}
    for number in range(1, len(wrong) + 1):
        assert f"{path}: line {number} is no record, and is left out" in caplog.text


def test_a_line_that_cannot_be_written_leaves_the_file_whole(tmp_path):
    path = tmp_path / "masks.jsonl"

    class Full:
        """Takes ten bytes and is full."""

        def __init__(self, file):
            self._file = file

        def write(self, data):
            if self._file.tell() > len(whole):
                raise OSError(28, "No space left on device")
            return self._file.write(data[:10])

        def __getattr__(self, name):
            return getattr(self._file, name)

    with RecordFile(path, [record("a")]) as file:
        whole = path.read_bytes()
        file._file = Full(file._file)
        with pytest.raises(OSError, match="No space left"):
            file.add(record("b"))
    assert path.read_bytes() == whole


def test_what_is_done(tmp_path):
    (tmp_path / "a.png").touch()
    records = [record("a", mask="b.png"), record("a", mask=5), record("a", mask="a.png")]
    assert is_done(tmp_path, "1 2", records, "s", ["mask"])
    for stamp, some, settings, kinds in (
        ("1 3", records, "s", ["mask"]),
        ("1 2", records, "t", ["mask"]),
        ("1 2", records, "s", ["mask", "cutout"]),
        ("1 2", records[:2], "s", ["mask"]),
        ("1 2", [], "s", ["mask"]),
    ):
        assert not is_done(tmp_path, stamp, some, settings, kinds)


def test_an_image_with_some_of_its_objects_is_not_done(tmp_path):
    (tmp_path / "a.png").touch()
    rows = [record("a", mask="a.png", object=k, objects=2) for k in (1, 2)]
    none = [record("a", mask="a.png", object=0, objects=0)]
    for some, done in ((rows, True), (rows[:1], False), (none, True), ([], False)):
        assert is_done(tmp_path, "1 2", some, "s", ["mask"]) is done


def test_only_what_is_done_again_is_forgotten(tmp_path):
    for shard in (Shard(), Shard(0, 2), Shard(1, 2), Shard(0, 3)):
        write(tmp_path, shard, record(shard.label))
    drop_records(tmp_path, Shard(0, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["masks.1-of-2.jsonl"]
    write(tmp_path, Shard(), record("a"))
    drop_records(tmp_path, Shard())
    assert list(tmp_path.iterdir()) == []
