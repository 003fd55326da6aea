"""Files that are whole or not there."""

import pytest

from sempart_jax.atomic_write import write_atomically


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
