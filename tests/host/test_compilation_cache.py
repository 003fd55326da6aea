"""Programs that were compiled before are found again by the next process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sempart_jax.host.compilation_cache import default_folder

PROGRAM = """
import jax, jax.monitoring, jax.numpy as jnp
from sempart_jax.host.compilation_cache import enable_compilation_cache
enable_compilation_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))))
print(hits.count("/jax/compilation_cache/cache_hits"), jax.config.jax_compilation_cache_dir)
"""


def compile_one(**environment):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    hits, folder = finished.stdout.split()
    return int(hits), folder


def test_the_second_process_compiles_nothing(tmp_path):
    wanted = str(tmp_path / "sempart_jax" / "compiled")
    assert compile_one(XDG_CACHE_HOME=str(tmp_path)) == (0, wanted)
    hits, folder = compile_one(XDG_CACHE_HOME=str(tmp_path))
    assert hits > 0
    assert folder == wanted


def test_settings_of_jax_stand_above_it(tmp_path):
    own = str(tmp_path / "own")
    found = compile_one(XDG_CACHE_HOME=str(tmp_path / "a"), JAX_COMPILATION_CACHE_DIR=own)
    assert found == (0, own)
    off = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    assert compile_one(XDG_CACHE_HOME=str(tmp_path / "a"), **off) == (0, "None")
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert compile_one(XDG_CACHE_HOME=str(file)) == (0, "None")


def test_it_lies_in_the_home_directory(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/someone"))
    assert default_folder() == Path("/home/someone/.cache/sempart_jax/compiled")


@pytest.mark.parametrize("value", ["", "/elsewhere"])
def test_the_systems_cache_folder_may_be_set(monkeypatch, value):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setattr(Path, "home", lambda: Path("/home"))
    base = Path(value) if value else Path("/home/.cache")
    assert default_folder() == base / "sempart_jax" / "compiled"
