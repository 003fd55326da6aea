"""What the package offers by its own name."""

import subprocess
import sys
from importlib import resources

import pytest

import sempart_jax
from sempart_jax.predict import exported


def test_public_names():
    for name in sempart_jax.__all__:
        assert getattr(sempart_jax, name) is not None
    assert sempart_jax.load_exported is exported.load_exported
    with pytest.raises(AttributeError, match="no attribute 'segmenter_of_all'"):
        _ = sempart_jax.segmenter_of_all


def test_public_names_are_listed_before_their_first_use():
    code = "import sempart_jax, sys; print(*dir(sempart_jax)); print('jax' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names, imported = finished.stdout.splitlines()
    assert {*sempart_jax.__all__, "__name__"} <= set(names.split())
    assert imported == "False"


def test_types_are_marked_as_there_for_whoever_checks_them():
    assert resources.files("sempart_jax").joinpath("py.typed").is_file()
