"""Networks in one file of our own."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from sempart_jax.evaluation.origin import network_origin
from sempart_jax.kernels.tensor_tree import fingerprint_params, flatten
from sempart_jax.networks import names
from sempart_jax.networks.by_name import create_network
from sempart_jax.networks.model_file import read_model, write_model
from sempart_jax.networks.model_format import (
    BACKBONE,
    HEAD,
    Description,
    holds_backbone,
    is_model_file,
    read_description,
    read_tensors,
    write_tensors,
)
from sempart_jax.networks.pretrained import create_backbone, load_backbone_params
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.load import load_segmenter
from tests.baselines.test_unet import seeded
from tests.two_tricks.small_network import BACKBONE as SMALL_VIT
from tests.two_tricks.small_network import NETWORK, seeded_variables

IMAGE = jax.numpy.asarray(np.random.default_rng(0).random((1, 8, 12, 3), np.float32))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A small backbone known by a name of its own."""
    known = names.Architecture(SMALL_VIT.patch_size, SMALL_VIT.width, SMALL_VIT.depth, 2)
    monkeypatch.setitem(names.BACKBONES, "small", known)


@pytest.fixture(scope="module")
def network():
    backbone, head = seeded_variables()
    return TrainedNetwork(NETWORK, backbone, dict(head), 48, "small", "float32", "drawn")


@pytest.fixture
def path(network, tmp_path):
    write_model(tmp_path / "model.safetensors", network)
    return tmp_path / "model.safetensors"


def change(path, *, tensors=None, drop=(), **metadata):
    """Write the file again with other tensors or metadata; ``None`` drops a field."""
    with safetensors.safe_open(path, framework="numpy") as file:
        fields = file.metadata() | metadata
    kept = {n: t for n, t in safetensors.numpy.load_file(path).items() if n not in drop}
    fields = {name: value for name, value in fields.items() if value is not None}
    path.write_bytes(safetensors.numpy.save(kept | (tensors or {}), fields))


@functools.cache
def compiled(modules):
    return jax.jit(lambda *arguments: modules.predict(*arguments).fine)


def masks(network):
    arguments = network.frozen_params, network.variables, IMAGE
    return np.asarray(compiled(network.modules)(*arguments))


def assert_same_tree(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_network_comes_back_as_it_was(network, path):
    found = read_model(path)
    assert_same_tree(found.frozen_params, network.frozen_params)
    assert_same_tree(found.variables, network.variables)
    for field in ("short_side", "backbone", "dtype", "patch_size"):
        assert getattr(found, field) == getattr(network, field)
    assert (found.modules.radius, found.modules.filter_eps) == (3, 1e-2)
    assert found.origin == f"model file {path} (drawn)"
    np.testing.assert_array_equal(masks(found), masks(network))


def test_names_and_description_are_those_of_the_format(network, path):
    with safetensors.safe_open(path, framework="numpy") as file:
        stored, metadata = set(file.keys()), file.metadata()
    assert {
        "backbone/block_0/query_key_value/kernel",
        "head/params/stage_0/block_1/conv/kernel",
        "head/batch_stats/stage_0/block_0/norm/var",
    } < stored
    assert metadata == {
        "format": "sempart_jax model",
        "format_version": "1",
        "backbone": "small",
        "patch_size": "2",
        "short_side": "48",
        "filter_radius": "3",
        "filter_eps": "0.01",
        "compute_dtype": "float32",
        "origin": "drawn",
        "network": "sempart",
        "queries": "20",
        "decoder_layers": "6",
        "head_dtype": "float32",
        "head_channels": "128",
        "features": "keys",
        "position_directions": "0",
        "unet_channels": "32",
        "backbone_fingerprint": fingerprint_params(network.frozen_params),
        "foreground_chosen": "False",
    }


def test_the_oldest_files_are_read(network, path, monkeypatch):
    metadata = {
        "format": "sempart_jax model",
        "format_version": "1",
        "backbone": "small",
        "patch_size": "2",
        "origin": "drawn",
        "short_side": "48",
        "filter_radius": "3",
        "filter_eps": "0.01",
        "compute_dtype": "float32",
    }
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load_file(path), metadata))
    # Even if the family's features had changed since.
    known = dataclasses.replace(names.BACKBONES["small"], features="tokens")
    monkeypatch.setitem(names.BACKBONES, "small", known)
    found = read_model(path)
    assert found.head_dtype == "float32"
    assert found.modules.backbone.features == "keys"
    np.testing.assert_array_equal(masks(found), masks(network))


def test_a_network_without_a_backbone_comes_back_from_half_precision(tmp_path):
    modules = create_network("unet", None, radius=3, unet_channels=2)
    variables = jax.device_get(seeded(modules))
    network = TrainedNetwork(modules, {}, variables, 96, "none", "float32", "drawn")
    path = tmp_path / "unet.safetensors"
    write_model(path, network, dtype="bfloat16")
    found = read_model(path)
    assert found.modules == modules
    assert (found.backbone, found.short_side, found.frozen_params) == ("none", 96, {})

    def halved(leaf):
        return leaf.astype(jax.numpy.bfloat16).astype(np.float32) if leaf.ndim > 1 else leaf

    assert_same_tree(found.variables, jax.tree.map(halved, variables))
    with pytest.raises(ValueError, match=r"unet has no backbone: leave out w\.npz"):
        read_model(path, "w.npz")
    change(path, patch_size="8")
    with pytest.raises(ValueError, match="says that unet has patches of 8 pixels, and it has 16"):
        read_model(path)


@pytest.mark.parametrize("name", ["found", "selfmask"])
def test_the_other_networks_come_back_as_they_were(network, tmp_path, name):
    backbone = create_backbone("small")
    modules = create_network(name, backbone, radius=3, queries=5, decoder_layers=2)
    frozen = {} if name == "selfmask" else network.frozen_params
    variables = jax.device_get(modules.init(jax.random.key(2), frozen, 8))
    other = dataclasses.replace(network, modules=modules, frozen_params=frozen, variables=variables)
    write_model(tmp_path / "m.safetensors", other)
    found = read_model(tmp_path / "m.safetensors")
    assert found.modules == modules
    assert holds_backbone(tmp_path / "m.safetensors") == (name == "found")
    np.testing.assert_array_equal(masks(found), masks(other))


def test_a_head_in_half_precision_is_remembered(network, tmp_path):
    modules = create_network("sempart", SMALL_VIT, radius=3, head_dtype="bfloat16")
    half = dataclasses.replace(network, modules=modules, head_dtype="bfloat16")
    write_model(tmp_path / "m.safetensors", half)
    found = read_model(tmp_path / "m.safetensors")
    assert (found.dtype, found.head_dtype) == ("float32", "bfloat16")
    assert found.computation == "float32, head in bfloat16"
    assert found.modules.head.dtype == jax.numpy.bfloat16
    np.testing.assert_array_equal(masks(found), masks(half))
    assert 1e-4 < np.abs(masks(found) - masks(network)).max() < 0.05
    change(tmp_path / "m.safetensors", head_dtype="int8")
    with pytest.raises(ValueError, match="head_dtype must be float32 or bfloat16, got 'int8'"):
        read_model(tmp_path / "m.safetensors")


def test_features_and_their_position_bias_are_remembered(network, tmp_path):
    backbone = network.modules.backbone.clone(features="values", position_directions=2)
    changed = dataclasses.replace(
        network, modules=dataclasses.replace(network.modules, backbone=backbone)
    )
    path = tmp_path / "values.safetensors"
    write_model(path, changed)
    found = read_model(path)
    kept = found.modules.backbone
    assert (kept.features, kept.position_directions) == ("values", 2)
    np.testing.assert_array_equal(masks(found), masks(changed))
    assert not np.array_equal(masks(found), masks(network))
    change(path, features="key")
    with pytest.raises(ValueError, match="features must be keys or queries or"):
        read_model(path)


def test_a_narrow_head_is_remembered(network, tmp_path):
    modules = create_network("sempart", SMALL_VIT, radius=3, head_channels=6)
    variables = jax.device_get(modules.init(jax.random.key(2), network.frozen_params, 8))
    narrow = dataclasses.replace(network, modules=modules, variables=variables)
    write_model(tmp_path / "m.safetensors", narrow)
    found = read_model(tmp_path / "m.safetensors")
    assert found.modules.head.channels == 6
    np.testing.assert_array_equal(masks(found), masks(narrow))
    change(tmp_path / "m.safetensors", head_channels="1")
    with pytest.raises(ValueError, match="head_channels must be 2 to 10000, got 1"):
        read_model(tmp_path / "m.safetensors")


def test_computation_in_half_precision_is_remembered(network, tmp_path):
    half = dataclasses.replace(network, dtype="bfloat16")
    write_model(tmp_path / "m.safetensors", half)
    found = read_model(tmp_path / "m.safetensors")
    assert found.dtype == "bfloat16"
    assert found.modules.backbone.dtype == jax.numpy.bfloat16


def test_half_precision_halves_matrices_alone(network, path, tmp_path):
    half = tmp_path / "half.safetensors"
    write_model(half, network, dtype="bfloat16")
    assert half.stat().st_size < 0.52 * path.stat().st_size
    whole = read_tensors(path)
    for name, tensor in read_tensors(half).items():
        assert tensor.dtype == np.float32
        if tensor.ndim == 1:
            np.testing.assert_array_equal(tensor, whole[name], err_msg=name)
        else:
            # bfloat16 has 8 significant bits: half a unit in the last place is 2^-9.
            np.testing.assert_allclose(tensor, whole[name], rtol=2**-8, err_msg=name)
            assert not np.array_equal(tensor, whole[name])
    np.testing.assert_allclose(masks(read_model(half)), masks(read_model(path)), atol=0.03)


def test_without_backbone_the_weights_are_named_or_loaded_by_name(network, path, tmp_path):
    head = tmp_path / "head.safetensors"
    write_model(head, network, include_backbone=False)
    assert all(name.startswith(HEAD) for name in read_tensors(head))
    assert_same_tree(read_model(head, path).frozen_params, network.frozen_params)
    assert read_model(head, "random").frozen_params.keys() == network.frozen_params.keys()
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        read_model(head, tmp_path / "absent.npz")
    with pytest.raises(ValueError, match=r"holds its backbone: leave out the weights absent\.npz"):
        read_model(path, "absent.npz")


def test_a_backbone_alone_is_weights_and_no_network(network, tmp_path):
    path = tmp_path / "backbone.safetensors"
    description = Description("small", 2, "drawn")
    write_tensors(path, description, flatten(network.frozen_params, BACKBONE))
    assert read_description(path) == description
    assert_same_tree(load_backbone_params("small", path), network.frozen_params)
    with pytest.raises(ValueError, match="holds the backbone small and no head"):
        read_model(path)


HEAD_TENSORS = [
    "head/params/input_projection/kernel",
    "head/params/stage_0/block_0/norm/scale",
    "head/batch_stats/stage_0/block_1/norm/var",
]
BACKBONE_TENSORS = [
    "backbone/class_token",
    "backbone/position_embedding",
    "backbone/block_0/mlp_hidden/bias",
]


@pytest.mark.parametrize("name", HEAD_TENSORS + BACKBONE_TENSORS)
def test_wrong_tensors_are_named(path, name):
    original = path.read_bytes()
    whole = read_tensors(path)[name]
    spoilt = whole.copy()
    spoilt.flat[-1] = np.inf
    for changes, message in (
        ({"drop": [name]}, rf"missing: {name} \("),
        ({"tensors": {name: np.ones((3, 1), np.float32)}}, rf"another shape: {name}: .* \(3, 1\)"),
        ({"tensors": {name: spoilt}}, f"with NaN or infinity: {name}$"),
        ({"tensors": {f"{name}_2": whole}}, rf"not known: {name}_2 \("),
        ({"tensors": {name: whole.astype(np.float16)}}, f"not float32 or bfloat16: {name} float16"),
    ):
        path.write_bytes(original)
        change(path, **changes)
        with pytest.raises(ValueError, match=message) as raised:
            read_model(path)
        assert str(path) in str(raised.value)


def test_tensors_of_no_part_are_named(path):
    change(path, tensors={"optimizer/mu": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match=r"names begin with none of .*: optimizer/mu"):
        read_model(path)


def test_everything_wrong_is_told_at_once(path):
    extra = {"head/params/a": np.ones(1, np.float32)}
    change(path, drop=HEAD_TENSORS[:2], tensors=extra)
    with pytest.raises(
        ValueError, match=r"(?s)missing: .*kernel.*; .*scale.*not known: head/param"
    ):
        read_model(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "2"}, "has the format version 2, and this program reads 1"),
        ({"format": "pt"}, "is no model file of sempart_jax"),
        ({"format": None}, "is no model file of sempart_jax"),
        ({"short_side": None}, "lack the field 'short_side'"),
        ({"short_side": "wide"}, "metadata is wrong: .*'wide'"),
        ({"short_side": "0"}, "short_side must be 1 to 10000, got 0"),
        ({"patch_size": "4"}, "small has patches of 4 pixels, and it has 2"),
        ({"filter_radius": "-1"}, "filter_radius must be 0 to 10000, got -1"),
        ({"network": "selfmask", "decoder_layers": str(10**9)}, "decoder_layers must be 1 to 100"),
        ({"filter_eps": "nan"}, "filter_eps must be above 0, got nan"),
        ({"compute_dtype": "int8"}, "compute_dtype must be float32 or bfloat16, got 'int8'"),
        ({"foreground_chosen": "1"}, "foreground_chosen must be True or False, got '1'"),
        ({"backbone": "large"}, "unknown backbone 'large'"),
    ],
)
def test_wrong_metadata_are_named(path, metadata, message):
    change(path, **metadata)
    with pytest.raises(ValueError, match=message):
        read_model(path)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.99])
def test_a_file_cut_short_is_named(path, fraction):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read; it is damaged"):
        read_model(path)
    assert not is_model_file(path)


def test_only_our_files_are_ours(path, tmp_path):
    assert is_model_file(path)
    assert not is_model_file(tmp_path)
    assert not is_model_file(tmp_path / "absent.safetensors")
    (tmp_path / "plain.safetensors").write_bytes(
        safetensors.numpy.save({"a": np.ones(1, np.float32)})
    )
    assert not is_model_file(tmp_path / "plain.safetensors")
    change(path, format_version="7")
    assert is_model_file(path), "so that the version is told, not that it is something else"


def test_what_could_not_be_read_back_is_not_written(network, path):
    before = path.read_bytes()
    spoilt = jax.tree.map(np.copy, network.variables)
    spoilt["params"]["fine_projection"]["bias"][:] = np.nan
    for arguments, message in (
        ({"network": dataclasses.replace(network, variables=spoilt)}, "fine_projection/bias"),
        ({"dtype": "float16"}, "unknown dtype 'float16': choose one of float32, bfloat16"),
    ):
        with pytest.raises(ValueError, match=message):
            write_model(path, **({"network": network} | arguments))
    with pytest.raises(ValueError, match=r"ends in '\.npz': a model file ends in \.safetensors"):
        write_model(path.with_suffix(".npz"), network)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_weights_of_the_backbone_are_told_once(network, path, tmp_path, caplog):
    write_model(path, network, include_backbone=False)
    own, other = tmp_path / "own.safetensors", tmp_path / "other.safetensors"
    write_model(own, network)
    changed = jax.tree.map(lambda leaf: leaf * 1.001, network.frozen_params)
    write_model(other, dataclasses.replace(network, frozen_params=changed))
    assert not read_model(path, own).foreground_chosen
    assert not caplog.messages
    read_model(path, other)
    (message,) = caplog.messages
    assert re.search("the weights of small are not those that the head in .* trained on", message)
    caplog.clear()
    # A file that holds its backbone may have rounded it.
    write_model(path, network, dtype="bfloat16")
    read_model(path)
    # Older files do not say on which weights they were trained.
    write_model(path, network, include_backbone=False)
    change(path, backbone_fingerprint=None)
    read_model(path, other)
    assert not caplog.messages


@pytest.mark.parametrize("chosen", [False, True])
def test_a_network_that_knows_the_foreground_is_not_inverted(network, tmp_path, chosen):
    path = tmp_path / "model.safetensors"
    write_model(path, dataclasses.replace(network, foreground_chosen=chosen))
    assert load_segmenter(path).invert == ("never" if chosen else "auto")
    assert load_segmenter(path, invert="always").invert == "always"
    assert network_origin(path).foreground_chosen == chosen
