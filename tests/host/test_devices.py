"""What a program computes on is said, and a GPU can be required."""

import jax
import pytest

from sempart_jax.host.devices import check_gpu, describe_devices, tell_devices
from tests.commands import run_module


def test_devices_and_type_are_told_apart_from_results(capsys):
    tell_devices("bfloat16, head in float32")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"computing on {describe_devices()} in bfloat16, head in float32\n"
    assert describe_devices() == f"{jax.device_count()} x cpu"


def test_a_required_gpu_has_to_be_there(monkeypatch):
    check_gpu(False)
    with pytest.raises(ValueError, match=r"finds no GPU, only \d x cpu.*nvidia-smi"):
        check_gpu(True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    check_gpu(True)


@pytest.mark.parametrize("module", ["segment", "evaluate", "train", "pretrain"])
def test_programs_refuse_a_cpu_before_they_write_anything(module, tmp_path):
    arguments = {
        "segment": ("examples/photographs", "--workdir=builtin", f"--out={tmp_path / 'out'}"),
        "evaluate": ("--method=priors", f"--data_root={tmp_path}", f"--report={tmp_path / 'out'}"),
        "train": ("--config=configs/demo.py", f"--workdir={tmp_path / 'out'}"),
        "pretrain": ("--config=configs/dino_pretrain.py", f"--workdir={tmp_path / 'out'}"),
    }[module]
    if module in ("train", "pretrain"):
        arguments += ("--config.data.train=examples/photographs",)
    finished = run_module(module, *arguments, "--require_gpu")
    assert finished.returncode == 1
    assert "error: --require_gpu: JAX finds no GPU, only 1 x cpu" in finished.stderr
    assert not (tmp_path / "out").exists()
