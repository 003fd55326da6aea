"""``scripts/port_weights.py``: published PyTorch weights into a model file."""

import argparse
import importlib.util
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels.tensor_tree import unflatten
from sempart_jax.networks import names
from sempart_jax.networks.model_format import (
    BACKBONE,
    HEAD,
    Description,
    read_description,
    read_tensors,
)
from sempart_jax.networks.porting import port_head, port_vit
from sempart_jax.predict.load import load_segmenter
from sempart_jax.runs.load_network import load_network
from sempart_jax.two_tricks.head import SegmentationHead
from tests.commands import REPOSITORY
from tests.networks.test_porting import head_state
from tests.two_tricks import dino_reference

SCRIPT = REPOSITORY / "scripts" / "port_weights.py"


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def port(monkeypatch, capsys):
    """Call the script's ``main`` as from the command line."""
    spec = importlib.util.spec_from_file_location("port_weights", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(**options) -> tuple[str, str]:
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["port_weights.py", *flags])
        error = ""
        try:
            module.main()
        except SystemExit as stop:
            error = str(stop.code)
        return capsys.readouterr().out, error

    return call


@pytest.fixture
def shallow(monkeypatch):
    """ViT-S with a single block, by the names of the real ones."""
    for name, patch_size in (("dino_vits8", 8), ("dino_vits16", 16), ("ibot_vits16", 16)):
        monkeypatch.setitem(names.BACKBONES, name, names.Architecture(patch_size, 384, 1, 6))


def vit_state(patch_size=8):
    return dino_reference.seeded_state_dict(patch_size=patch_size, width=384, depth=1, grid=2)


def tensors(torch, state, prefix=""):
    return {f"{prefix}{name}": torch.from_numpy(tensor.copy()) for name, tensor in state.items()}


def released(values):
    """Take the released head's tensors out of the golden values."""
    prefix = "param/"
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}


@pytest.mark.parametrize("wrapped", [True, False])
def test_released_checkpoint_gives_the_golden_logits(golden, torch, port, tmp_path, wrapped):
    values = golden("head")
    state = tensors(torch, released(values))
    if wrapped:
        state = {"segmenter_state_dict": state, "epoch": 29, "optimizer": {"lr": 1e-4}}
    torch.save(state, tmp_path / "segmenter.pth")
    out = tmp_path / "model.safetensors"
    printed, error = port(head=tmp_path / "segmenter.pth", out=out)
    assert error == ""
    assert printed.splitlines() == [
        f"head {tmp_path}/segmenter.pth",
        "  Sempart head: patch 8, keys of 384 channels",
        "  44 tensors, 748,165 numbers, and 8 tensors, 1,152 numbers of batch norm",
        f"wrote {out}",
        "  head of dino_vits8, float32, 3.0 MB",
    ]
    assert read_description(out) == Description("dino_vits8", 8, "ported from segmenter.pth")

    variables = unflatten(read_tensors(out, HEAD), HEAD)
    keys, image = (
        jnp.asarray(values[name].transpose(0, 2, 3, 1)) for name in ("features", "image")
    )
    logits = jax.jit(SegmentationHead(patch_size=8).apply)(variables, keys, image)
    for name in ("fine", "coarse"):
        expected = values[f"{name}_logits_eval"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(logits[name], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_released_file_and_its_port_give_the_same_masks(golden, torch, port, shallow, tmp_path):
    torch.save(
        {"segmenter_state_dict": tensors(torch, released(golden("head")))},
        tmp_path / "segmenter.pth",
    )
    torch.save({"teacher": tensors(torch, vit_state(), "backbone.")}, tmp_path / "dino.pth")
    out = tmp_path / "model.safetensors"
    _, error = port(
        head=tmp_path / "segmenter.pth", backbone_weights=tmp_path / "dino.pth", out=out
    )
    assert error == ""
    options = {"resolution": 16, "refine": "none", "invert": "never", "batch_size": 1}
    picture = np.random.default_rng(0).integers(0, 256, (33, 30, 3)).astype(np.uint8)
    direct = load_segmenter(tmp_path / "segmenter.pth", weights=tmp_path / "dino.pth", **options)(
        picture
    )
    ported = load_segmenter(out, **options)(picture)
    assert np.ptp(direct) > 0.01
    np.testing.assert_array_equal(ported, direct)


@pytest.mark.parametrize("wrapper", [None, "teacher", "student"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_backbones_of_all_wrappings(torch, port, shallow, tmp_path, wrapper, prefix):
    state = vit_state()
    saved = tensors(torch, state, prefix)
    if wrapper:
        saved |= {f"{prefix}head.mlp.0.weight": torch.ones(2, 2)}
        saved = {wrapper: saved, "epoch": 100, "args": argparse.Namespace(arch="vit_small")}
    torch.save(saved, tmp_path / "dino.pth")
    out = tmp_path / "backbone.safetensors"
    printed, error = port(backbone_weights=tmp_path / "dino.pth", out=out)
    assert error == ""
    assert "  vision transformer of patch size 8, width 384 and depth 1\n  18 tensors, " in printed
    assert "  backbone of dino_vits8, float32, " in printed
    found = unflatten(read_tensors(out), BACKBONE)
    jax.tree.map(np.testing.assert_array_equal, found, port_vit(state))


def test_the_teacher_goes_before_the_student(torch, port, shallow, tmp_path):
    state = vit_state()
    student = {name: tensor + 1 for name, tensor in tensors(torch, state).items()}
    torch.save({"student": student, "teacher": tensors(torch, state)}, tmp_path / "both.pth")
    out = tmp_path / "backbone.safetensors"
    assert port(backbone_weights=tmp_path / "both.pth", out=out)[1] == ""
    found = unflatten(read_tensors(out), BACKBONE)
    np.testing.assert_array_equal(found["class_token"], state["cls_token"])


def test_head_and_backbone_without_pytorch(port, shallow, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    head = head_state(channels=384, stages=4)
    np.savez(tmp_path / "head.npz", **head)
    np.savez(tmp_path / "vit.npz", **vit_state(16))
    files = {"head": tmp_path / "head.npz", "backbone_weights": tmp_path / "vit.npz"}
    out = tmp_path / "model.safetensors"
    printed, error = port(
        **files, backbone="ibot_vits16", out=out, short_side=288, dtype="bfloat16"
    )
    assert error == ""
    assert "  head and backbone of ibot_vits16, bfloat16, " in printed
    network = load_network(out)
    assert (network.backbone, network.patch_size, network.short_side) == ("ibot_vits16", 16, 288)
    exact = port_head(head)["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, network.variables["batch_stats"], exact)
    assert "ported from head.npz and vit.npz" in network.origin


def test_mistakes_are_told_in_one_line_and_nothing_is_written(port, shallow, tmp_path):
    np.savez(tmp_path / "head8.npz", **head_state(channels=384, stages=3))
    np.savez(tmp_path / "head16.npz", **head_state(channels=384, stages=4))
    np.savez(tmp_path / "vit8.npz", **vit_state(8))
    np.savez(tmp_path / "vit16.npz", **vit_state(16))
    np.savez(tmp_path / "other.npz", weight=np.ones(2))
    spoilt = vit_state(8)
    spoilt["cls_token"][:] = np.nan
    del spoilt["norm.bias"]
    np.savez(tmp_path / "spoilt.npz", **spoilt)
    for options, message in (
        ({}, "nothing to port: name --head, --backbone_weights, or both"),
        ({"head": "absent.pth"}, r"weight file not found: .*absent\.pth"),
        ({"head": "vit8.npz"}, r"vit8\.npz holds a vision transformer and no head"),
        ({"head": "other.npz"}, r"other\.npz holds no segmentation head: its tensors are weight"),
        ({"backbone_weights": "head8.npz"}, r"head8\.npz holds a segmentation head where weights"),
        ({"backbone_weights": "other.npz"}, r"other\.npz holds no vision transformer: its tensors"),
        (
            {"backbone_weights": "spoilt.npz"},
            r"spoilt\.npz: .* missing: norm\.bias \(384,\) with NaN or infinity: cls_token",
        ),
        (
            {"backbone_weights": "vit16.npz"},
            r"dino_vits16 from ibot_vits16, which have patch size 16, width 384 and depth 1: name "
            r"the backbone \(--backbone\)",
        ),
        ({"head": "head16.npz"}, r"dino_vits16 from ibot_vits16, .* \(--backbone\)"),
        (
            {"head": "head8.npz", "backbone_weights": "vit16.npz", "backbone": "ibot_vits16"},
            "head is for patches of 8 pixels .* but the backbone has 16 and 384: they do not",
        ),
        (
            {"backbone_weights": "vit8.npz", "backbone": "dino_vits16"},
            "dino_vits16 has patch size 16, width 384 and depth 1, but .* have patch size 8, ",
        ),
        (
            {"head": "head16.npz", "backbone": "dino_vits8"},
            r"dino_vits8 has patch size and width \(8, 384\), but .* \(16, 384\)",
        ),
    ):
        files = {
            name: value if name == "backbone" else tmp_path / value
            for name, value in options.items()
        }
        _, error = port(**files, out=tmp_path / "model.safetensors")
        assert re.match(rf"error: .*{message}", error), error
        assert "\n" not in error
        assert not (tmp_path / "model.safetensors").exists()
    _, error = port(head=tmp_path / "head8.npz", out=tmp_path / "model.pth")
    assert error.endswith("a model file ends in .safetensors")


def test_as_a_user_runs_it(tmp_path):
    np.savez(tmp_path / "head.npz", **head_state(channels=384, stages=3))

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", str(SCRIPT), *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = run("--head", "head.npz", "--out", "model.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_description(tmp_path / "model.safetensors").origin == "ported from head.npz"
    done = run("--head", "absent.npz", "--out", "model.safetensors")
    assert (done.returncode, done.stderr) == (1, "error: weight file not found: absent.npz\n")
