"""Boxes in JSON."""

import pytest

from sempart_jax.evaluation.given_boxes import read_given_boxes


def write(folder, text):
    path = folder / "boxes.json"
    path.write_text(text)
    return path


def test_boxes_and_nulls_are_read(tmp_path):
    path = write(tmp_path, '{"000005": [1, 2.5, 3, 4], "000007": null}')
    assert read_given_boxes(path) == {"000005": [1, 2.5, 3, 4], "000007": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"boxes\.json is no JSON"),
        ("[[1, 2, 3, 4]]", "must hold an object"),
        ('{"a": [1, 2, 3]}', r"the box of a is \[1, 2, 3\]"),
        ('{"a": {"x": 1}}', "the box of a is"),
        ('{"a": [1, 2, 3, "4"]}', "the box of a is"),
        ('{"a": [1, 2, 3, true]}', "the box of a is"),
    ],
)
def test_other_content_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_given_boxes(write(tmp_path, text))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_given_boxes(tmp_path / "none.json")
