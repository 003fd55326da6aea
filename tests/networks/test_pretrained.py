import os
import subprocess
import sys

import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub.errors import LocalEntryNotFoundError

from sempart_jax.kernels.tensor_tree import flatten
from sempart_jax.networks.model_format import (
    BACKBONE,
    Description,
    read_description,
    read_tensors,
    write_tensors,
)
from sempart_jax.networks.names import BACKBONES
from sempart_jax.networks.porting import port_vit
from sempart_jax.networks.pretrained import (
    HUB_REPOSITORIES,
    DownloadError,
    create_backbone,
    load_backbone_params,
)
from tests.two_tricks import dino_reference


@pytest.fixture(scope="module")
def vit_small_16() -> dict[str, np.ndarray]:
    return dino_reference.seeded_state_dict(patch_size=16, width=384, depth=12, grid=14)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, vit_small_16):
    path = tmp_path_factory.mktemp("weights") / "vit_small_16.safetensors"
    safetensors.numpy.save_file(vit_small_16, path)
    return path


@pytest.fixture
def no_download(monkeypatch):
    def download(*args, **kwargs):
        raise AssertionError("a local file needs no download")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


@pytest.mark.parametrize("name", ["dino_vits16", "ibot_vits16"])
def test_local_file_is_loaded_and_fits_the_backbone(name, weights, vit_small_16, no_download):
    params = load_backbone_params(name, weights)
    expected = port_vit(vit_small_16)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    image = np.zeros((1, 32, 48, 3), np.float32)
    out = jax.eval_shape(create_backbone(name).apply, {"params": params}, image)
    assert out["keys"].shape == (1, 2, 3, 384)


def test_projection_head_of_a_whole_checkpoint_is_dropped(tmp_path, vit_small_16, no_download):
    state = {f"backbone.{name}": tensor for name, tensor in vit_small_16.items()}
    state |= {"head.mlp.0.weight": np.ones((4, 384), np.float32)}
    state |= {"head.last_layer2.weight_v": np.ones((4, 4), np.float32)}
    np.savez(tmp_path / "teacher.npz", **state)
    params = load_backbone_params("ibot_vits16", str(tmp_path / "teacher.npz"))
    jax.tree.map(np.testing.assert_array_equal, params, port_vit(vit_small_16))


def test_file_of_another_architecture_is_refused(weights, no_download):
    message = (
        r"vit_small_16\.safetensors holds a vision transformer of patch size 16, width 384 and "
        "depth 12, but 'dino_vitb8' has patch size 8, width 768 and depth 12"
    )
    with pytest.raises(ValueError, match=message):
        load_backbone_params("dino_vitb8", weights)


def test_tensor_errors_name_backbone_and_file(tmp_path, vit_small_16, no_download):
    state = {name: tensor for name, tensor in vit_small_16.items() if name != "norm.bias"}
    np.savez(tmp_path / "cut.npz", **state)
    with pytest.raises(
        ValueError, match=r"(?s)'dino_vits16' from .*cut\.npz: .*missing: norm\.bias"
    ):
        load_backbone_params("dino_vits16", tmp_path / "cut.npz")


@pytest.fixture
def own(tmp_path, vit_small_16):
    """A model file of this project that holds a backbone."""
    path = tmp_path / "backbone.safetensors"
    tensors = flatten(port_vit(vit_small_16), BACKBONE)
    write_tensors(path, Description("ibot_vits16", 16, "drawn"), tensors)
    return path


def test_backbone_of_our_own_file_is_loaded(own, vit_small_16, no_download):
    params = load_backbone_params("ibot_vits16", str(own))
    jax.tree.map(np.testing.assert_array_equal, params, port_vit(vit_small_16))
    assert jax.tree.structure(params) == jax.tree.structure(port_vit(vit_small_16))


def test_own_files_of_another_backbone_or_of_none_are_refused(own, tmp_path):
    with pytest.raises(
        ValueError, match="holds the backbone 'ibot_vits16', but 'dino_vits16' is wanted"
    ):
        load_backbone_params("dino_vits16", own)
    head = tmp_path / "head.safetensors"
    write_tensors(head, Description("dino_vits8", 8, "drawn"), {"head/params/a": np.ones(1)})
    with pytest.raises(
        ValueError, match="holds a head for 'dino_vits8' and no backbone, but 'dino_vits8' is want"
    ):
        load_backbone_params("dino_vits8", head)


@pytest.mark.parametrize("rows", [1, 2, 5, 26])
def test_own_position_embeddings_may_have_any_square_grid(own, rows, no_download):
    tensors = read_tensors(own)
    name = "backbone/position_embedding"
    tensors[name] = tensors[name][:, :rows]
    write_tensors(own, read_description(own), tensors)
    if rows in (2, 5, 26):
        table = load_backbone_params("ibot_vits16", own)["position_embedding"]
        np.testing.assert_array_equal(table, tensors[name])
    else:
        with pytest.raises(ValueError, match=rf"{name}: expected \(1, 197, 384\), found \(1, 1, "):
            load_backbone_params("ibot_vits16", own)


def test_an_own_position_embedding_without_square_grid_is_refused(own, no_download):
    tensors = read_tensors(own)
    for shape in ((1, 4, 384), (197, 384), (2, 197, 384), (1, 197, 12)):
        tensors["backbone/position_embedding"] = np.ones(shape, np.float32)
        write_tensors(own, read_description(own), tensors)
        with pytest.raises(ValueError, match="position_embedding: expected"):
            load_backbone_params("ibot_vits16", own)


def test_unknown_name_and_missing_file_are_told(tmp_path):
    with pytest.raises(ValueError, match="unknown backbone 'vits8': choose one of dino_vits8, "):
        load_backbone_params("vits8")
    with pytest.raises(FileNotFoundError, match=r"weight file not found: .*none\.npz"):
        load_backbone_params("dino_vits8", tmp_path / "none.npz")


@pytest.mark.parametrize("is_cached", [True, False])
def test_the_hub_is_asked_for_the_registered_file_if_the_cache_lacks_it(
    is_cached, tmp_path, weights, monkeypatch
):
    asked = []

    def download(repository, file, *, cache_dir, local_files_only):
        asked.append((repository, file, cache_dir, local_files_only))
        if local_files_only and not is_cached:
            raise LocalEntryNotFoundError("not there")
        return str(weights)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    load_backbone_params("dino_vits16", cache_dir=tmp_path)
    assert {question[:1] + question[2:3] for question in asked} == {
        ("timm/vit_small_patch16_224.dino", tmp_path)
    }
    from_network = [file for _, file, _, local_files_only in asked if not local_files_only]
    assert from_network == ([] if is_cached else ["model.safetensors"])


def test_without_a_network_the_hub_is_asked_once(monkeypatch):
    asked = []

    def download(repository, file, *, local_files_only, **options):
        if not local_files_only:
            asked.append(file)
        raise LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DownloadError, match="no route to host"):
        load_backbone_params("dino_vits16")
    assert asked == ["model.safetensors"]


@pytest.mark.parametrize("name", HUB_REPOSITORIES)
@pytest.mark.parametrize("error", [LocalEntryNotFoundError, ConnectionError, PermissionError])
def test_failed_download_says_what_to_fetch_and_where_to_name_it(name, error, monkeypatch):
    def download(*args, **kwargs):
        raise error("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(FileNotFoundError) as raised:
        load_backbone_params(name, cache_dir="some/cache")
    assert f"patch{BACKBONES[name].patch_size}" in HUB_REPOSITORIES[name]
    for part in (
        f"https://huggingface.co/{HUB_REPOSITORIES[name]}/resolve/main/model.safetensors",
        "--config.backbone.weights=PATH",
        "some/cache",
        "no route to host",
    ):
        assert part in str(raised.value)


def test_ibot_needs_a_file(no_download):
    message = r"'ibot_vits16' has no download: .*bytedance/ibot .*--config\.backbone\.weights=PATH"
    with pytest.raises(FileNotFoundError, match=message):
        load_backbone_params("ibot_vits16")
    with pytest.raises(FileNotFoundError, match="'vit_tiny8' has no download: name a file"):
        load_backbone_params("vit_tiny8")


def test_which_backbones_have_a_download():
    without = {"ibot_vits16", "vit_tiny8", "vit_tiny16"}
    assert set(HUB_REPOSITORIES) | without == set(BACKBONES)


def offline(cache, code: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )


LOAD = """
from sempart_jax.networks.pretrained import load_backbone_params
print(load_backbone_params("dino_vits16")["norm"]["scale"].shape)
"""


def test_offline_without_cache_says_where_the_file_belongs(tmp_path):
    done = offline(tmp_path, LOAD)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "DownloadError: backbone 'dino_vits16': model.safetensors of timm/vit_small" in last
    assert str(tmp_path / "hub") in last
    assert "--config.backbone.weights=PATH" in last


def test_offline_with_a_filled_cache_loads(tmp_path, weights):
    repository = tmp_path / "hub" / "models--timm--vit_small_patch16_224.dino"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(weights)
    done = offline(tmp_path, LOAD)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(384,)"
