"""Keeps on the disk what XLA has compiled, so that the next start of a program need not wait."""

import os
from pathlib import Path

import jax
from absl import logging

MAXIMUM_BYTES = 2**31
"""From here on, what has not been used for longest is removed."""


def default_folder() -> Path:
    """Where compiled programs lie unless ``JAX_COMPILATION_CACHE_DIR`` says otherwise.

    Raises:
        RuntimeError: if there is no home directory.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "sempart_jax" / "compiled"


def enable_compilation_cache() -> None:
    """Turn on JAX's persistent compilation cache for this process, before it compiles anything.

    JAX's own settings stand above it: a folder in ``JAX_COMPILATION_CACHE_DIR``, or
    ``JAX_ENABLE_COMPILATION_CACHE=false``. Where the folder cannot be made, programs are compiled
    each time, as without a cache.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder = default_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        logging.info("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MAXIMUM_BYTES)
