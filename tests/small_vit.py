"""Run a program in which ``vit_tiny8`` is very small, and so it is in what that starts.

``python tests/small_vit.py SCRIPT ARGUMENTS``, or ``-m MODULE`` in place of the script.
"""

import runpy
import sys
from pathlib import Path

from sempart_jax import recorded_commands
from sempart_jax.models import vit

vit.BACKBONES["vit_tiny8"] = vit.Architecture(patch_size=8, width=24, depth=2, num_heads=3)
_run_command = recorded_commands.run_command


def run_command(command):
    own = [str(Path(__file__).resolve())] if command[0] == sys.executable else []
    return _run_command([command[0], *own, *command[1:]])


recorded_commands.run_command = run_command
if sys.argv[1] == "-m":
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
