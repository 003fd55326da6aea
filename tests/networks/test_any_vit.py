"""The backbone `vit`, whose shape is read off its weights: heads over it, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from sempart_jax import load_segmenter
from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.by_name import create_network
from sempart_jax.networks.model_file import read_model, write_model
from sempart_jax.networks.model_format import BACKBONE, Description, write_tensors
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.load import network_segmenter
from sempart_jax.two_tricks.vit import LEARNED_ANTIALIASED, ROTARY, VisionTransformer
from tests.commands import run_module
from tests.two_tricks import dino_reference

SIZES = {"patch_size": 4, "width": 64, "depth": 2, "num_heads": 1}
REGISTERS = {"registers": 4, "layer_scale": True, "features": "tokens"}
FAMILIES = {
    "dino": VisionTransformer(**SIZES),
    "dinov2": VisionTransformer(**SIZES, **REGISTERS, position=LEARNED_ANTIALIASED),
    "dinov3": VisionTransformer(
        **SIZES, **REGISTERS, position=ROTARY, eps=1e-5, gated=True, hidden=96
    ),
}
DESCRIPTION = Description("vit", patch_size=4, origin="drawn")


def drawn(module):
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return jax.device_get(variables["params"])


@pytest.fixture
def state():
    return dino_reference.seeded_state_dict(patch_size=4, width=64, depth=2, grid=3)


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=pytest.mark.slow) if f == "dino" else f for f in FAMILIES]
)
def test_a_head_over_any_vit_is_written_read_and_segments(family, tmp_path):
    weights = tmp_path / "backbone.safetensors"
    write_tensors(weights, DESCRIPTION, flatten(drawn(FAMILIES[family]), BACKBONE))
    backbone, params = load_backbone("vit", str(weights))
    assert backbone == FAMILIES[family]
    modules = create_network("sempart", backbone, radius=2)
    variables = jax.device_get(modules.init(jax.random.key(1), params, 8))
    network = TrainedNetwork(modules, params, variables, 24, "vit", "float32", "drawn")
    write_model(tmp_path / "model.safetensors", network)
    write_model(tmp_path / "head.safetensors", network, include_backbone=False)

    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    expected = network_segmenter(network, batch_size=1)(picture)
    assert expected.shape == (30, 40)
    assert np.ptp(expected) > 0
    mask = load_segmenter(tmp_path / "model.safetensors", batch_size=1)(picture)
    np.testing.assert_array_equal(mask, expected)
    assert read_model(tmp_path / "head.safetensors", weights).modules == modules
    with pytest.raises(FileNotFoundError, match="'vit' has no download: name a file of weights"):
        read_model(tmp_path / "head.safetensors")


def test_features_follow_the_family_unless_they_are_chosen(state, tmp_path):
    path = str(tmp_path / "dino.safetensors")
    safetensors.numpy.save_file(state, path)
    assert load_backbone("vit", path)[0].features == "keys"
    assert load_backbone("vit", path, features="values")[0].features == "values"
    state |= {f"blocks.{i}.ls{j}.gamma": np.ones(64, np.float32) for i in (0, 1) for j in (1, 2)}
    safetensors.numpy.save_file(state, path)
    assert load_backbone("vit", path)[0].features == "tokens"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"blocks.0.mlp.fc1.weight": (5, 7)},
            r"of another shape: blocks\.0\.mlp\.fc1\.weight: expected \(256, 64\), found \(5, 7\)$",
        ),
        (
            {"norm.bias": None, "norm.offset": (64,)},
            r"missing: norm\.bias \(64,\)\n  not known: norm\.offset \(64,\)$",
        ),
        ({"pos_embed": None}, r"missing: pos_embed"),
        (
            {"blocks.1.attn.relative_position_bias_table": (9, 2)},
            r"not known: blocks\.1\.attn\.relative_position_bias_table \(9, 2\)$",
        ),
    ],
)
def test_wrong_tensors_are_told_with_their_file(changes, message, state, tmp_path):
    for name, shape in changes.items():
        if shape is None:
            del state[name]
        else:
            state[name] = np.zeros(shape, np.float32)
    path = tmp_path / "wrong.safetensors"
    safetensors.numpy.save_file(state, path)
    with pytest.raises(ValueError, match=message) as raised:
        load_backbone("vit", str(path))
    assert str(raised.value).startswith(f"{path}: the weights are not those of a vision transf")


@pytest.mark.parametrize(
    "names",
    [
        ["conv1.weight", "layer1.0.conv1.weight"],
        ["visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight"],
    ],
)
def test_networks_of_other_families_are_refused(names, tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({name: np.zeros((4, 4), np.float32) for name in names}, path)
    with pytest.raises(ValueError, match=rf"holds no vision transformer: .*{names[0]}, {names[1]}"):
        load_backbone("vit", str(path))


def test_heads_of_another_size_are_refused(tmp_path):
    state = dino_reference.seeded_state_dict(patch_size=4, width=96, depth=1, grid=3)
    safetensors.numpy.save_file(state, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match="of width 96: 64 channels a head do not divide it"):
        load_backbone("vit", str(tmp_path / "wide.safetensors"))
    own = tmp_path / "own.safetensors"
    wide = VisionTransformer(patch_size=4, width=96, depth=1, num_heads=2)
    write_tensors(own, DESCRIPTION, flatten(drawn(wide), BACKBONE))
    with pytest.raises(ValueError, match=r"of width 96, which heads of 64 channels do not divide"):
        load_backbone("vit", str(own))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("patch_embedding/kernel", "lacks tensors that tell the shape of its backbone: get it"),
        ("block_0/mlp_hidden/kernel", "lacks tensors that tell the shape of its backbone: get it"),
        ("block_1/mlp_norm/scale", r"missing: backbone/block_1/mlp_norm/scale \(64,\)$"),
        ("class_token", r"missing: backbone/class_token \(1, 1, 64\)$"),
    ],
)
def test_an_own_file_that_lacks_a_tensor_is_told(lost, message, tmp_path):
    path = tmp_path / "own.safetensors"
    tensors = flatten(drawn(FAMILIES["dinov3"]), BACKBONE)
    del tensors[BACKBONE + lost]
    write_tensors(path, DESCRIPTION, tensors)
    with pytest.raises(ValueError, match=message) as raised:
        load_backbone("vit", str(path))
    assert str(raised.value).startswith(f"{path} ")


def test_an_own_file_of_a_head_alone_is_told(tmp_path):
    path = tmp_path / "head.safetensors"
    write_tensors(path, DESCRIPTION, {"head/params/bias": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match="holds a head and no backbone: name another file"):
        load_backbone("vit", str(path))


@pytest.mark.slow
def test_the_command_line_tells_it_in_a_line(state, tmp_path):
    Image.new("RGB", (40, 32)).save(tmp_path / "picture.png")
    state["blocks.0.norm1.weight"] = np.zeros(65, np.float32)
    wrong, absent = tmp_path / "wrong.safetensors", tmp_path / "absent.safetensors"
    safetensors.numpy.save_file(state, wrong)
    for backbone, weights, expected in (
        ("vit", wrong, rf"error: {wrong}: the weights are not those of a vision transformer; "),
        ("vit", absent, f"error: weight file not found: {absent}\n"),
        ("vot", wrong, "error: unknown backbone 'vot': choose one of dino_vits8, "),
    ):
        method = ("--method=tokencut", f"--backbone={backbone}", f"--weights={weights}")
        out = tmp_path / "masks"
        finished = run_module("segment", tmp_path / "picture.png", *method, "--out", out)
        assert finished.returncode == 1
        assert finished.stdout == ""
        assert finished.stderr.startswith(expected)
        assert "Traceback" not in finished.stderr
        assert not out.exists()
