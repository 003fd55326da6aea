"""Files that are whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from sempart_jax.host.atomic_write import write_atomically


def test_content_and_folders_are_written_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomically(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


def test_names_that_are_no_utf8_keep_their_bytes(tmp_path):
    write_atomically(tmp_path / "list", b"\xff.png".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "list").read_bytes() == b"\xff.png"


def test_the_old_file_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(self, target):
        raise OSError("no room")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="no room"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_its_name_and_the_name_at_the_end(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, Path.replace

    def note_sync(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def note_replace(self, target):
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr("pathlib.Path.replace", note_replace)
    write_atomically(tmp_path / "file", "content")
    assert done == ["file", "name", "folder"]
