"""One working directory, one training."""

import errno
import logging
import os
import signal
import socket
import subprocess
import sys

import pytest

from sempart_jax.host.errors import WriteError
from sempart_jax.host.folder_lock import FolderInUseError, locked
from tests.commands import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
from sempart_jax.host.folder_lock import locked
with locked(Path(sys.argv[1]), "--out"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_is_refused_and_may_follow_a_killed_one(tmp_path):
    workdir = tmp_path / "new" / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, workdir], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with holder:
        try:
            assert holder.stdout.readline() == "held\n"
            named = f"in use by process {holder.pid} on {socket.gethostname()}: wait"
            with pytest.raises(FolderInUseError, match=named), locked(workdir, "--workdir"):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    with (
        locked(workdir, "--workdir"),
        pytest.raises(FolderInUseError, match=f"process {os.getpid()}"),
        locked(workdir, "--workdir"),
    ):
        pass
    with locked(workdir, "--workdir"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, 524])
def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch, caplog, answer):
    def refuse(file, operation):
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr("fcntl.flock", refuse)
    with caplog.at_level(logging.WARNING, logger="absl"):
        for _ in range(2):
            with locked(tmp_path, "--out"):
                (tmp_path / "written").touch()
    assert caplog.text.count(f"{tmp_path} cannot be locked ({os.strerror(answer)})") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_another_failure_of_the_disk_names_the_folder(tmp_path, monkeypatch):
    def fail(file, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(WriteError, match=f"cannot write {tmp_path}: "), locked(tmp_path, "--out"):
        pass
