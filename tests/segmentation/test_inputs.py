"""Which files arguments mean, and what their outputs are called."""

import os
from pathlib import Path, PurePosixPath

import pytest

from sempart_jax.data.folder import PRODUCT_MARKER
from sempart_jax.segmentation.inputs import find_inputs, name_outputs
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


def test_folders_are_searched_and_keep_their_structure(root):
    assert names(root, root) == {
        "a.png": "a",
        "b.JPG": "b",
        "sub/a.webp": "sub/a",
        "sub/deep/c.png": "sub/deep/c",
    }
    assert names(root, root / "sub") == {"sub/a.webp": "a", "sub/deep/c.png": "deep/c"}


def test_files_are_taken_whatever_they_are_called(root):
    assert names(root, root / "notes.txt", root / "sub/a.webp") == {
        "notes.txt": "notes",
        "sub/a.webp": "a",
    }


def test_patterns_stand_for_what_matches(root):
    assert names(root, root / "*.*") == {"a.png": "a", "b.JPG": "b", "notes.txt": "notes"}
    assert names(root, root / "**/*.png") == {"a.png": "a", "sub/deep/c.png": "sub/deep/c"}
    # A folder that matches is searched.
    assert names(root, root / "s?b") == {"sub/a.webp": "sub/a", "sub/deep/c.png": "sub/deep/c"}


def test_a_name_with_wildcards_is_a_name_first(root):
    write_red(root / "a[b]*.png")
    write_red(root / "ab.png")
    assert names(root, root / "a[b]*.png") == {"a[b]*.png": "a[b]*"}


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


def test_what_is_not_there_is_named(root):
    for argument in (root / "absent.jpg", root / "*.bmp"):
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            find_inputs([str(root), str(argument)])


@pytest.mark.parametrize(
    "name",
    ["a b.png", "it's.png", 'say "hi".png', "two\nlines.png", "..png", "...png", "~.png", "-.png"],
)
def test_hostile_names(tmp_path, name):
    (named,) = name_outputs(find_inputs([str(write_red(tmp_path / name))]))
    assert named.path.name == name
    assert "/" not in named.name
    assert named.name not in (".", "..")


def test_names_that_are_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    (named,) = name_outputs(find_inputs([str(write_red(path))]))
    assert os.fsencode(named.name) == b"caf\xe9"


def wanted(**paths):
    return {Path("/" + path.replace("__", "/")): PurePosixPath(n) for path, n in paths.items()}


def test_names_that_nobody_else_wants_are_kept():
    named = name_outputs(wanted(a="x", b="y", c="sub/x"))
    assert [file.name for file in named] == ["x", "y", "sub/x"]


def test_equal_names_all_get_a_mark_of_their_path():
    inputs = wanted(a="x", b="x", c="X", d="y")
    first = {file.path: file.name for file in name_outputs(inputs)}
    assert first[Path("/d")] == "y"
    assert len({name.casefold() for name in first.values()}) == 4
    assert all(name.lower().startswith("x~") for path, name in first.items() if path != Path("/d"))
    # Nothing depends on the order.
    backwards = name_outputs(dict(reversed(inputs.items())))
    assert {file.path: file.name for file in backwards} == first


def test_a_mark_that_somebody_has_as_his_name_is_no_clash():
    marked = name_outputs(wanted(a="x", b="x"))[0].name
    named = name_outputs(wanted(a="x", b="x", c=marked))
    assert len({file.name for file in named}) == 3


def test_a_file_does_not_take_the_name_of_a_folder():
    named = name_outputs(wanted(a="x", b="x.png/y", c="x.jpg/y"))
    assert named[0].name.startswith("x~")
    assert [file.name for file in named[1:]] == ["x.png/y", "x.jpg/y"]


def test_names_of_earlier_calls_are_kept_and_not_given_away():
    before = {Path("/a"): "x"}
    named = name_outputs(wanted(a="x", b="x"), before)
    assert named[0].name == "x"
    assert named[1].name.startswith("x~")
    # Also when the other one is not an input of this call.
    (alone,) = name_outputs(wanted(b="x"), before)
    assert alone == named[1]


def test_long_names_are_shortened_and_stay_apart():
    long = "é" * 120
    named = name_outputs(wanted(a=long + "1", b=long + "2"))
    assert named[0].name != named[1].name
    assert all(len(os.fsencode(file.name)) < 220 for file in named)
