"""Flat names and nested parameters."""

import json

import numpy as np
import pytest

from sempart_jax.kernels.tensor_tree import check_tensors, flatten, not_finite, unflatten


def test_flat_names_and_nested_ones_are_the_same():
    tree = {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}
    flat = flatten(tree, "x/")
    assert json.dumps(flat) == '{"x/a/b/c": 1, "x/a/b/d": 2, "x/a/e": 3, "x/f": 4}'
    assert unflatten(flat | {"y/z": 5}, "x/") == tree


def test_each_kind_of_problem_is_told_and_nothing_else():
    found = {"a": np.ones(2), "b": np.ones((2, 1)), "c": np.asarray([1, np.nan]), "d": np.ones(3)}
    check_tensors("file", {"a": found["a"]}, {"a": (2,)}, "a net")
    with pytest.raises(ValueError, match="file does not hold a net; tensors") as raised:
        check_tensors("file", found, {"a": (2,), "b": (2,), "c": (2,), "e": (4, 5)}, "a net")
    assert str(raised.value).splitlines()[1:] == [
        "  missing: e (4, 5)",
        "  not known: d (3,)",
        "  of another shape: b: expected (2,), found (2, 1)",
        "  with NaN or infinity: c",
    ]
    assert not_finite({"x": np.asarray([np.inf]), "y": np.zeros(1)}) == ["x"]


def test_negative_variances_are_refused():
    name = "head/batch_stats/stage_0/norm/var"
    shapes = {name: (2,), "head/params/kernel": (2,)}
    tensors = {name: np.asarray([0.0, 1.0]), "head/params/kernel": -np.ones(2)}
    check_tensors("file", tensors, shapes, "a net")
    tensors[name] = np.asarray([1.0, -1e-3])
    with pytest.raises(ValueError, match=f"of negative variances: {name}$"):
        check_tensors("file", tensors, shapes, "a net")
