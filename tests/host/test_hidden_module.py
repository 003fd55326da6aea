"""Packages that are hidden from others, and seen again."""

import sys

import pytest

from sempart_jax.host.hidden_module import hidden


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "sempart_hidden_one.py").write_text("seen = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "sempart_hidden_one"
    sys.modules.pop("sempart_hidden_one", None)


def test_a_package_is_hidden_and_seen_again(package):
    with hidden(package), pytest.raises(ModuleNotFoundError):
        __import__(package)
    assert __import__(package).seen


def test_it_is_seen_again_after_an_error(package):
    with pytest.raises(OSError, match="lost"), hidden(package):
        raise OSError("lost")
    assert __import__(package).seen


def test_what_is_imported_already_stays(package):
    before = __import__(package)
    with hidden(package):
        assert __import__(package) is before
    assert sys.modules[package] is before
