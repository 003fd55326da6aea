"""``scripts/write_model.py``: a run into a model file."""

import importlib.util
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

from sempart_jax.networks.builtin_model import LARGEST
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.experiment import build_experiment
from sempart_jax.runs.load_network import load_network
from sempart_jax.runs.run_record import register_run
from tests.commands import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "write_model.py"


@pytest.fixture
def write(monkeypatch):
    spec = importlib.util.spec_from_file_location("write_model", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["write_model.py", *map(str, arguments)])
        module.main()

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a U-Net of full size with an average, which nobody has trained."""
    workdir = tmp_path_factory.mktemp("runs") / "unet"
    config = default_config()
    config.network, config.backbone.name, config.pseudo_masks = "unet", "none", "masks"
    config.data.image_size = 64
    config.optimizer.average_decay = 0.9
    register_run(workdir, config, {}, last_step=7, default=config, resumable_fields=())
    state = build_experiment(config, last_step=7).empty_state(64)
    average = jax.tree.map(lambda leaf: np.full(leaf.shape, 1 / 3, leaf.dtype), state.average)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(state.replace(step=np.asarray(7, np.int32), average=average))
    return workdir


def test_a_run_becomes_a_small_file(run, tmp_path, write, capsys):
    out = tmp_path / "new" / "model.safetensors"
    write(run, out, "--dtype", "bfloat16")
    assert out.stat().st_size < LARGEST / 3
    assert f"wrote {out}, 4.2 MB: run {run}, step 7, last" in capsys.readouterr().out
    network = load_network(out)
    assert (network.backbone, network.short_side) == ("none", 64)
    for leaf in jax.tree.leaves(network.variables):
        rounded = np.float32(ml_dtypes.bfloat16(1 / 3)) if leaf.ndim > 1 else np.float32(1 / 3)
        np.testing.assert_array_equal(leaf, rounded)
    write(run / "checkpoints" / "7", tmp_path / "whole.safetensors")
    whole = load_network(tmp_path / "whole.safetensors")
    assert {float(leaf.flat[0]) for leaf in jax.tree.leaves(whole.variables)} == {np.float32(1 / 3)}


def test_what_is_no_run_is_told_in_a_line(tmp_path, write):
    with pytest.raises(SystemExit, match=r"error: .*nothing does not exist: give a run"):
        write(tmp_path / "nothing", tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_file_ends_as_a_model_file_does(run, tmp_path, write):
    with pytest.raises(SystemExit, match=r"error: .*a model file ends in \.safetensors"):
        write(run, tmp_path / "model.npz")
