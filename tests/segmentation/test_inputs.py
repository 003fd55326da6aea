"""Which files arguments mean, what their outputs are called, and whose they are."""

import logging
import os
import unicodedata
from pathlib import Path, PurePosixPath

import pytest

from sempart_jax.data.folder import EXTENSIONS, PRODUCT_MARKER
from sempart_jax.segmentation.inputs import (
    ImageFile,
    Shard,
    find_inputs,
    name_outputs,
    parse_shard,
)
from tests.segmentation.red_images import write_red


def names(root, *arguments):
    """Path below ``root`` to wanted name."""
    found = find_inputs([str(argument) for argument in arguments])
    return {str(path.relative_to(root)): str(name) for path, name in found.items()}


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", "b.JPG", "sub/a.webp", "sub/deep/c.png", "notes.txt", ".hidden/d.png"):
        write_red(tmp_path / name)
    return tmp_path


def test_folders_files_and_patterns(root):
    sub = {"sub/a.webp": "sub/a", "sub/deep/c.png": "sub/deep/c"}
    assert names(root, root) == {"a.png": "a", "b.JPG": "b", **sub}
    assert names(root, root / "sub") == {"sub/a.webp": "a", "sub/deep/c.png": "deep/c"}
    # A file is taken whatever it is called.
    assert names(root, root / "notes.txt", root / "sub/a.webp") == {
        "notes.txt": "notes",
        "sub/a.webp": "a",
    }
    assert names(root, root / "*.*") == {"a.png": "a", "b.JPG": "b", "notes.txt": "notes"}
    assert names(root, root / "**/*.png") == {"a.png": "a", "sub/deep/c.png": "sub/deep/c"}
    # A folder that matches is searched.
    assert names(root, root / "s?b") == sub
    # What exists under the very name is no pattern.
    write_red(root / "a[b]*.png")
    write_red(root / "ab.png")
    assert names(root, root / "a[b]*.png") == {"a[b]*.png": "a[b]*"}
    for argument in (root / "absent.jpg", root / "*.bmp"):
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            find_inputs([str(root), str(argument)])


def test_a_folder_that_exists_is_no_pattern(tmp_path, monkeypatch):
    for name in ("2024 [1]/a.png", "2024 [1]/b[c]/d.png", "2024 1/e.png", "*/f.png"):
        write_red(tmp_path / name)
    first = {"2024 [1]/a.png": "a", "2024 [1]/b[c]/d.png": "b[c]/d"}
    assert names(tmp_path, tmp_path / "2024 [1]") == first
    assert names(tmp_path, tmp_path / "2024 [1]/*.png") == {"2024 [1]/a.png": "a"}
    assert names(tmp_path, tmp_path / "2024 [1]/**/*.png") == first
    assert names(tmp_path, tmp_path / "2024 [1]/b[c]/*") == {"2024 [1]/b[c]/d.png": "d"}
    # Where there is no such folder, it is a pattern as ever.
    assert names(tmp_path, tmp_path / "2024 [0-9]/*") == {"2024 1/e.png": "2024 1/e"}
    monkeypatch.chdir(tmp_path)
    assert names(tmp_path, "2024 [1]/*.png") == {"2024 [1]/a.png": "a"}
    assert names(tmp_path, "2024*/") == {
        "2024 [1]/a.png": "2024 [1]/a",
        "2024 [1]/b[c]/d.png": "2024 [1]/b[c]/d",
        "2024 1/e.png": "2024 1/e",
    }


def test_all_that_is_read_is_taken_from_a_folder_and_the_rest_counted_once(tmp_path, caplog):
    taken = [f"{number}{suffix}" for number, suffix in enumerate(EXTENSIONS)]
    others = ("a.heic", "b.HEIC", "c.heic", "notes.txt", "more.txt", "README")
    for name in (*taken, *others, PRODUCT_MARKER, "masks.jsonl", "masks.0-of-2.jsonl"):
        write_red(tmp_path / name)
    with caplog.at_level(logging.WARNING, logger="absl"):
        for _ in range(2):
            assert set(names(tmp_path, tmp_path)) == set(taken)
    assert caplog.messages == [
        f"left out 6 files under {tmp_path}, which are no images by their suffix: 3 .heic, 2 .txt, "
        "1 without one"
    ]


def test_a_file_is_one_input_however_often_it_is_named(root, monkeypatch):
    monkeypatch.chdir(root / "sub")
    assert names(root, "a.webp", "../sub/./a.webp", root / "sub", "*.webp", Path("..")) == {
        "sub/a.webp": "a",
        "sub/deep/c.png": "deep/c",
        "a.png": "a",
        "b.JPG": "b",
    }


def test_what_was_written_before_is_left_out(root):
    for folder in ("masks", "overlays/sub", "cutouts"):
        write_red(root / "sub" / folder / "x.png")
    assert "sub/masks/x.png" in names(root, root)
    (root / "sub" / PRODUCT_MARKER).write_text("{}")
    assert set(names(root, root)) == {"a.png", "b.JPG", "sub/a.webp", "sub/deep/c.png"}
    assert set(names(root, root / "sub/masks/x.png", root / "a.png")) == {"a.png"}
    with pytest.raises(FileNotFoundError, match="no image to segment"):
        find_inputs([str(root / "sub/masks/x.png"), str(root / "sub/overlays/**")])


def named(before=None, **paths):
    """Names by path."""
    wanted = {Path("/" + p.replace("__", "/")): PurePosixPath(n) for p, n in paths.items()}
    return {str(file.path)[1:]: file.name for file in name_outputs(wanted, before)}


def test_equal_names_all_get_a_mark_of_their_path():
    assert named(a="x", b="y", c="sub/x") == {"a": "x", "b": "y", "c": "sub/x"}
    first = named(a="x", b="x", c="X", d="y")
    assert first.pop("d") == "y"
    assert len({name.casefold() for name in first.values()}) == 3
    assert all(name.lower().startswith("x~") for name in first.values())
    # Nothing depends on the order.
    assert named(d="y", c="X", b="x", a="x") == first | {"d": "y"}
    # A mark that somebody has as his name is no clash.
    assert len(set(named(a="x", b="x", c=first["a"]).values())) == 3


def test_names_of_folders_and_of_earlier_calls_are_not_given_away_and_long_ones_shortened():
    names = named(a="x", b="x.png/y", c="x.jpg/y")
    assert names.pop("a").startswith("x~")
    assert names == {"b": "x.png/y", "c": "x.jpg/y"}
    before = {Path("/a"): "x"}
    both = named(before, a="x", b="x")
    assert both["a"] == "x"
    assert both["b"].startswith("x~")
    # Also when the other one is not an input of this call.
    assert named(before, b="x") == {"b": both["b"]}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", ["é", "ab é", "写真", "🦆x"])
def test_long_names_are_cut_between_characters(form, text):
    start = unicodedata.normalize(form, text * 120)
    long = named(a=f"{start}1", b=f"{start}2")
    assert long["a"] != long["b"]
    for name in long.values():
        stem, _ = name.rsplit("~", 1)
        assert 180 < len(os.fsencode(name)) < 220
        stem.encode("utf-8")
        # Neither characters nor accents are lost within.
        assert unicodedata.normalize("NFC", start).startswith(unicodedata.normalize("NFC", stem))
    # Bytes that are no UTF-8 have no characters.
    odd = named(a=os.fsdecode(b"\xff" * 250))
    assert len(os.fsencode(odd["a"])) < 220


def test_each_image_is_in_one_shard_and_files_that_come_move_no_other():
    files = [ImageFile(Path(f"/photos/{i}.jpg"), str(i)) for i in range(400)]
    for count in (1, 3, 7):
        parts = [list(filter(Shard(index, count).holds, files)) for index in range(count)]
        assert sorted(file.path for part in parts for file in part) == sorted(
            file.path for file in files
        )
        assert min(map(len, parts)) > 0.6 * len(files) / count


def test_shards_are_read():
    assert parse_shard("2/4") == Shard(2, 4)
    assert Shard(2, 4).record_name == "masks.2-of-4.jsonl"
    assert Shard().record_name == "masks.jsonl"
    for text in ("4/4", "1", "-1/4", "a/b", "1/", "/2", "1/2/3", "0/0"):
        with pytest.raises(ValueError, match="--shard is i/n with i from 0 to n-1"):
            parse_shard(text)
