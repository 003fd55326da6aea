"""Parts that are found again, and parts that are not."""

import logging

import numpy as np
import pytest

from sempart_jax.evaluation.part_store import PartStore

ARRAYS = {
    "names": np.array(["a", "bé\udcff"]),
    "scores/none/x": np.array([[0.1, np.nan]]),
    "empty": np.array([], np.str_),
    "box: é": np.array([True]),
}


def only_part(root):
    (path,) = root.glob("*/00003.npz")
    return path


def test_what_was_saved_is_loaded(tmp_path):
    PartStore(tmp_path, {"a": 1}).save(3, ARRAYS)
    store = PartStore(tmp_path, {"a": 1})
    loaded = store.load(3)
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    assert store.load(2) is None


def test_another_identity_finds_nothing_and_takes_nothing(tmp_path):
    PartStore(tmp_path, {"a": 1, "b": [1, 2]}).save(3, ARRAYS)
    assert PartStore(tmp_path, {"a": 2, "b": [1, 2]}).load(3) is None
    assert PartStore(tmp_path, {"b": [1, 2], "a": 1}).load(3) is not None


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b""])
def test_damaged_part_is_named_and_counts_as_absent(tmp_path, damage, caplog):
    store = PartStore(tmp_path, {})
    store.save(3, ARRAYS)
    path = only_part(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert store.load(3) is None
    assert str(path) in caplog.text
    store.save(3, ARRAYS)
    assert store.load(3) is not None


def test_objects_are_never_unpickled(tmp_path, caplog):
    store = PartStore(tmp_path, {})
    with pytest.raises(ValueError, match="allow_pickle"):
        store.save(3, {"names": np.array([{}], object)})
    store.save(3, ARRAYS)
    np.savez(only_part(tmp_path), names=np.array([{}], object))
    assert store.load(3) is None
