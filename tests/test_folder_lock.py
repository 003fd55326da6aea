"""One working directory, one training."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from sempart_jax.folder_lock import FolderInUseError, locked
from tests.commands import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
from sempart_jax.folder_lock import locked
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
