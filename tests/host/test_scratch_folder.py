"""Temporary folders that go with their process."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sempart_jax.host.scratch_folder import ScratchFolder
from tests.commands import REPOSITORY

PROGRAM = """
import sys
from sempart_jax.host.scratch_folder import ScratchFolder
folder = ScratchFolder(1)
(folder.path / "pixels").write_bytes(b"x")
print(folder.path, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start() -> tuple[subprocess.Popen, Path]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


def test_a_folder_of_its_own(temporary):
    one, two = ScratchFolder(1), ScratchFolder(1)
    assert one.path != two.path
    assert one.path.parent == two.path.parent == temporary
    # Nobody else on the machine needs to see what is trained on.
    assert one.path.stat().st_mode & 0o077 == 0
    (one.path / "deep").mkdir()
    one.close()
    one.close()
    assert not one.path.exists()
    assert two.path.is_dir()


def test_losing_it_removes_it():
    scratch = ScratchFolder(1)
    path = scratch.path
    assert path.is_dir()
    del scratch
    assert not path.exists()


def test_the_end_of_the_program_removes_it():
    process, path = start()
    assert path.is_dir()
    _, complaints = process.communicate("\n", timeout=60)
    assert complaints == ""
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_the_next_one_removes_what_a_killed_program_left(temporary):
    stranger = temporary / "sempart-jax-notes"
    unowned = temporary / "sempart-_other"
    for path in (stranger, unowned):
        path.mkdir()
    killed, left = start()
    running, used = start()
    killed.kill()
    killed.communicate(timeout=60)
    assert left.is_dir()
    mine = ScratchFolder(1)
    assert not left.exists()
    assert (used / "pixels").exists()
    assert stranger.is_dir()
    assert unowned.is_dir()
    ScratchFolder(1).close()
    assert mine.path.is_dir()
    running.communicate("\n", timeout=60)


def test_too_little_room(temporary, monkeypatch):
    usage = type("Usage", (), {"free": 2_000_000_000})()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"2\.5 GB are needed in .*2\.0 GB are free.*TMPDIR"):
        ScratchFolder(2_500_000_000)
    assert not os.listdir(temporary)  # noqa: PTH208
    ScratchFolder(2_000_000_000)
