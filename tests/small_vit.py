"""Run a program in which all ViTs are very small, and so they are in what that starts.

``python tests/small_vit.py SCRIPT ARGUMENTS``, or ``-m MODULE`` in place of the script.
"""

import dataclasses
import runpy
import sys
from pathlib import Path

from sempart_jax import recorded_commands
from sempart_jax.models import names

PROGRAM = str(Path(__file__).resolve())

_run_command = recorded_commands.run_command


def run_command(command):
    """Run a command as the package does, one of Python with small ViTs."""
    own = [PROGRAM] if command[0] == sys.executable else []
    return _run_command([command[0], *own, *command[1:]])


def shrink():
    """Let each ViT keep its patches alone."""
    for name, architecture in names.BACKBONES.items():
        names.BACKBONES[name] = dataclasses.replace(architecture, width=24, depth=2, num_heads=3)


if __name__ == "__main__":
    shrink()
    recorded_commands.run_command = run_command
    if sys.argv[1] == "-m":
        del sys.argv[:2]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name="__main__")
