"""The package itself, as whoever imports it finds it."""

import os
import subprocess
import sys

from tests.commands import REPOSITORY


def test_a_source_tree_that_is_not_installed_can_be_used(tmp_path):
    # A link, for what tells of an installation may lie beside the package.
    (tmp_path / "sempart_jax").symlink_to(REPOSITORY / "sempart_jax")
    # -S: without the packages that are installed, this one among them
    command = [sys.executable, "-S", "-c", "import sempart_jax; print(sempart_jax.__version__)"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "0+unknown\n"
