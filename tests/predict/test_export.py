"""Exported networks: the same masks without the code of the model."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks import names
from sempart_jax.networks.by_name import create_network
from sempart_jax.networks.model_format import BACKBONE as BACKBONE_NAMES
from sempart_jax.networks.model_format import HEAD
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.predict.export import export_program
from sempart_jax.predict.exported import exported_predictor, load_exported
from sempart_jax.predict.load import network_segmenter
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.runs.load_network import load_network
from tests.baselines.test_unet import seeded
from tests.small_model import small_network
from tests.two_tricks.small_network import BACKBONE, NETWORK, seeded_variables

RNG = np.random.default_rng(0)
# The third is seen on the very grid that the position embedding was trained on.
PICTURES = [
    RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    for size in ((24, 30), (25, 30), (9, 9), (40, 7))
]


@pytest.fixture(scope="module")
def tiny():
    """A small vision transformer, which sees square images on its trained grid of 2x2."""
    backbone, head = seeded_variables()
    return TrainedNetwork(NETWORK, backbone, dict(head), 4, "tiny", "float32", "drawn")


@pytest.fixture(scope="module")
def handcrafted():
    return dataclasses.replace(small_network(), short_side=16)


@pytest.fixture(scope="module")
def selfmask():
    network = create_network("selfmask", BACKBONE, queries=3, decoder_layers=2)
    variables = jax.device_get(network.init(jax.random.key(0), {}, 4))
    return TrainedNetwork(network, {}, variables, 4, "tiny", "float32", "drawn")


@pytest.fixture(scope="module")
def unet():
    network = create_network("unet", None, unet_channels=1)
    variables = jax.device_get(seeded(network))
    return TrainedNetwork(network, {}, variables, 16, "none", "float32", "drawn")


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny"
    network_segmenter(tiny).export(path)
    return path


def in_new_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        "tiny",
        "unet",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("handcrafted", "selfmask")),
    ],
)
def test_masks_are_those_of_the_segmenter(name, tmp_path, request):
    network = request.getfixturevalue(name)
    segmenter = network_segmenter(network, refine="none", invert="never", batch_size=2)
    segmenter.export(tmp_path / "exported")
    pictures = PICTURES[:2] if name == "handcrafted" else PICTURES
    exported = load_exported(tmp_path / "exported")
    for found, expected in zip(exported(pictures), segmenter(pictures), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(found) > 1e-3, "a mask with something in it"


@pytest.mark.slow
def test_a_head_in_half_precision_is_exported_as_it_computes(tiny):
    half = dataclasses.replace(tiny.modules, head=tiny.modules.head.clone(dtype=jnp.bfloat16))
    tensors = flatten(tiny.variables, HEAD) | flatten(tiny.frozen_params, BACKBONE_NAMES)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, jnp.float32) for name, x in tensors.items()}
    program = export_program(half, shapes, 4, 6)
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)
    found = jax.jit(program.call)(tensors, image)
    assert found.dtype == jnp.float32
    rgb = jnp.asarray(image.astype(np.float32) / 255)
    expected, whole = (
        jax.jit(lambda *inputs, s=s: s.predict(*inputs).fine)(
            tiny.frozen_params, tiny.variables, rgb
        )[..., 0]
        for s in (half, tiny.modules)
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(expected - whole).max() > 2e-3


def test_code_of_the_model_is_not_needed(exported, tiny, tmp_path):
    Image.fromarray(PICTURES[0]).save(tmp_path / "picture.png")
    code = """
import sys
import numpy as np
from PIL import Image
from sempart_jax import load_exported
segmenter = load_exported(sys.argv[1], refine="none", invert="never")
np.save(sys.argv[3], segmenter(Image.open(sys.argv[2])))
print(*sorted(sys.modules))
"""
    done = in_new_process(code, exported, tmp_path / "picture.png", tmp_path / "mask.npy")
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    own = {name for name in modules if name.startswith("sempart_jax.")}
    models = (
        "two_tricks",
        "baselines",
        "networks.by_name",
        "networks.backbones",
        "runs",
        "training",
    )
    assert not [name for name in own if name.startswith(tuple(f"sempart_jax.{x}" for x in models))]
    foreign = {name.split(".")[0] for name in modules}
    assert not foreign & {"flax", "optax", "orbax", "grain", "ml_collections", "torch", "absl"}
    expected = network_segmenter(tiny, refine="none", invert="never")(PICTURES[0])
    np.testing.assert_allclose(np.load(tmp_path / "mask.npy"), expected, atol=1e-5)


@pytest.mark.slow
def test_options_are_those_of_the_export_unless_others_are_asked_for(tiny, tmp_path):
    segmenter = network_segmenter(tiny, refine="bilateral", invert="always", resolution=6)
    segmenter.export(tmp_path / "a")
    ours = load_exported(tmp_path / "a")
    assert (ours.refine, ours.invert, ours.description["short_side"]) == ("bilateral", "always", 6)
    raw = load_exported(tmp_path / "a", refine="none", invert="never")(PICTURES[0])
    expected = postprocess("bilateral", PICTURES[0], 1 - raw)
    np.testing.assert_allclose(ours(PICTURES[0]), expected, atol=1e-5)
    with pytest.raises(ValueError, match="unknown refine 'crf'"):
        load_exported(tmp_path / "a", refine="crf")


@pytest.mark.slow
def test_settings_are_all_that_masks_follow_from(exported, tiny, tmp_path):
    network_segmenter(tiny).export(tmp_path / "half", dtype="bfloat16")
    settings = load_exported(exported, refine="none", invert="never").settings()
    assert {name: settings[name] for name in ("resolution", "refine", "invert")} == {
        "resolution": tiny.short_side,
        "refine": "none",
        "invert": "never",
    }
    other = load_exported(tmp_path / "half", refine="none", invert="never").settings()
    assert {name for name in settings if settings[name] != other[name]} == {"network"}


@pytest.mark.slow
def test_weights_of_half_precision_are_smaller_and_give_near_masks(exported, tiny, tmp_path):
    network_segmenter(tiny).export(tmp_path / "half", dtype="bfloat16")
    sizes = [
        (folder / "weights.safetensors").stat().st_size for folder in (exported, tmp_path / "half")
    ]
    assert sizes[1] < 0.52 * sizes[0]
    masks = [
        load_exported(folder, refine="none", invert="never")(PICTURES[0])
        for folder in (exported, tmp_path / "half")
    ]
    np.testing.assert_allclose(*masks, atol=0.03)
    assert not np.array_equal(*masks)


def test_weights_are_a_model_file(exported, tiny, monkeypatch):
    known = names.Architecture(BACKBONE.patch_size, BACKBONE.width, BACKBONE.depth, 2)
    monkeypatch.setitem(names.BACKBONES, "tiny", known)
    network = load_network(exported / "weights.safetensors")
    jax.tree.map(np.testing.assert_array_equal, network.variables, tiny.variables)


def test_few_sizes_of_batches_are_compiled():
    sizes = []

    def program(weights, images):
        sizes.append(len(images))
        return images[..., 0].astype(np.float32) / 255

    segmenter = exported_predictor({(4, 4): program}, {}, short_side=4, patch_size=2, batch_size=6)
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in range(11)]
    for count in range(1, 12):
        masks = segmenter(pictures[:count])
        assert [round(float(mask.mean()) * 255) for mask in masks] == list(range(count))
    assert set(sizes) == {1, 2, 4, 6}


def test_the_folder_appears_whole_or_not_at_all(tiny, exported, tmp_path):
    spoilt = jax.tree.map(np.copy, tiny.variables)
    spoilt["params"]["fine_projection"]["bias"][:] = np.nan
    broken = network_segmenter(dataclasses.replace(tiny, variables=spoilt))
    with pytest.raises(ValueError, match="fine_projection/bias"):
        broken.export(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    before = (exported / "model.json").read_bytes()
    with pytest.raises(ValueError, match="tiny exists: remove it, or export to another folder"):
        network_segmenter(tiny).export(exported)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ValueError, match="link exists: remove it, or export to another folder"):
        network_segmenter(tiny).export(tmp_path / "link")
    assert (exported / "model.json").read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["tiny"]


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize("file", ["weights.safetensors", "4x4.stablehlo", "8x4.stablehlo"])
def test_damaged_and_missing_files_are_named(exported, tmp_path, file):
    folder = copy(exported, tmp_path / "copy")
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is damaged, or was replaced"):
        load_exported(folder)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} is missing from the exported network"):
        load_exported(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 0}, "has the format version 0, and this program reads 1: export"),
        ({"format": "onnx"}, "is of another format, 'onnx'"),
        ({"format": None}, "is damaged, or is of something else"),
        ({"jax": None}, "is damaged, jax is missing"),
        ({"short_side": 64}, r"was exported without \d+x\d+\.stablehlo, which is needed"),
    ],
)
def test_other_versions_and_formats_are_refused(exported, tmp_path, changes, message):
    folder = copy(exported, tmp_path / "copy")
    description = json.loads((folder / "model.json").read_text()) | changes
    description = {name: value for name, value in description.items() if value is not None}
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=message):
        load_exported(folder)


def test_a_program_that_this_jax_cannot_read_is_told(exported, tmp_path):
    folder = copy(exported, tmp_path / "copy")
    (folder / "4x4.stablehlo").write_bytes(b"from another age" * 9)
    description = json.loads((folder / "model.json").read_text()) | {"jax": "0.1.0"}
    description["sha256"]["4x4.stablehlo"] = hashlib.sha256(b"from another age" * 9).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"4x4\.stablehlo was written by JAX 0\.1\.0 and cannot"):
        load_exported(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"text"'])
def test_a_damaged_description_is_named(tmp_path, content):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.json is damaged, or is of something else"):
        load_exported(tmp_path)


def test_what_is_no_exported_network_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no exported network in {tmp_path}"):
        load_exported(tmp_path)


def test_missing_flatbuffers_is_told_with_its_remedy(exported, tiny, tmp_path, monkeypatch):
    segmenter = network_segmenter(tiny)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install flatbuffers"):
        load_exported(exported)
    with pytest.raises(ModuleNotFoundError, match="pip install flatbuffers"):
        segmenter.export(tmp_path / "a")
