"""Run the command line in a process of its own, as a user would."""

import os
import subprocess
import sys
from pathlib import Path

import jax

REPOSITORY = Path(__file__).resolve().parent.parent

SMALL = {
    "backbone.name": "handcrafted",
    "data.image_size": 32,
    "data.resize_size": 36,
    "batch_size": 4,
    "guided_filter.radius": 2,
    "log.every_steps": 1,
    "log.panel_images": 0,
    "log.panels_every_steps": 0,
}
"""Fields of a configuration that trains within seconds."""


QUICKLY_COMPILED = "--xla_backend_optimization_level=0"
"""Takes a third of the time; what it gives is slower, in a loop by far: good for small images."""
if jax.__version_info__ < (0, 11, 1):  # later ones lack this flag, and XLA aborts on what it lacks
    QUICKLY_COMPILED += " --xla_cpu_use_fusion_emitters=false"


def command_environment():
    """Return the environment of a process on one CPU device."""
    return {**os.environ, "XLA_FLAGS": QUICKLY_COMPILED}


def run_module(name, *arguments, small_vits=False):
    """Run ``python -m sempart_jax.NAME`` on one CPU device; its own deprecations are errors.

    Most of the time of a ViT of twelve blocks is that of its compilation.
    """
    program = ["tests/small_vit.py"] if small_vits else []
    return _run(*program, "-m", f"sempart_jax.{name}", *arguments)


def run_with_builtin_model(folder, name, *arguments, first=""):
    """The same with the built-in model of another folder, and after some lines of Python."""
    lines = [
        "import runpy, sempart_jax.networks.builtin_model",
        f"sempart_jax.networks.builtin_model.FOLDER = __import__('pathlib').Path({str(folder)!r})",
        first,
        f"runpy.run_module('sempart_jax.{name}', run_name='__main__', alter_sys=True)",
    ]
    return _run("-c", "\n".join(lines), *arguments)


def _run(*arguments):
    command = [sys.executable, "-W", "error::DeprecationWarning:sempart_jax"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=REPOSITORY,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def run_train(workdir, images, *, config="tricks", small_vits=False, **fields):
    """Train with :data:`SMALL`; ``a__b=1`` overrides the field ``a.b``."""
    fields = SMALL | {"data.train": images} | {k.replace("__", "."): v for k, v in fields.items()}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    arguments = ["--config", f"configs/{config}.py", "--workdir", workdir, *flags]
    return run_module("train", *arguments, small_vits=small_vits)


def own_words(stderr):
    """What a program has printed, but for a notice of Grain beside the oldest JAX.

    It cannot profile its workers with it, and says so when it is imported.
    """
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if "jaxlib extension version" not in line)
