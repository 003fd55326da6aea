"""The model of the package: where it is used, and what it is like."""

import fnmatch
import shutil
import tomllib
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors
from huggingface_hub.errors import LocalEntryNotFoundError

import sempart_jax
from sempart_jax.data.images import read_grey, read_image
from sempart_jax.data.synthetic import synthetic_scene, write_scenes
from sempart_jax.networks import builtin_model
from sempart_jax.networks.builtin_model import (
    DINOV2,
    FILE,
    FILES,
    FOLDER,
    LARGEST,
    builtin_model_path,
)
from sempart_jax.networks.model_format import BACKBONE, HEAD, read_description, read_tensors
from sempart_jax.networks.pretrained import DownloadError
from sempart_jax.predict.load import load_segmenter
from sempart_jax.runs.source import find_source
from tests.commands import REPOSITORY, own_words, run_with_builtin_model
from tests.small_model import write_small_model

PACKAGED, HEAD_OVER_DINOV2 = FOLDER / FILE, FOLDER / FILES[DINOV2]

MISSING = "error: this installation of sempart_jax has no built-in model"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("builtin") / FILE)


def test_it_is_used_where_no_source_is_named(model, monkeypatch):
    monkeypatch.setattr(builtin_model, "FOLDER", model.parent)
    image = synthetic_scene(np.random.default_rng(0), 40)[0]
    named = load_segmenter(model, resolution=24)
    for ours in (load_segmenter(resolution=24), load_segmenter("builtin", resolution=24)):
        assert ours.settings() == named.settings()
        np.testing.assert_array_equal(ours(image), named(image))


def test_the_head_over_dinov2_is_preferred(model, monkeypatch, tmp_path):
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path)
    (tmp_path / FILE).write_bytes(model.read_bytes())
    assert find_source(None) == find_source("builtin") == tmp_path / FILE
    with pytest.raises(FileNotFoundError, match="no dinov2 model: name a run"):
        find_source("dinov2")
    (tmp_path / FILES[DINOV2]).write_bytes(model.read_bytes())
    assert find_source(None) == find_source("dinov2") == tmp_path / FILES[DINOV2]
    assert find_source("builtin") == tmp_path / FILE


def test_the_built_in_model_takes_over_where_dinov2_cannot_be_downloaded(
    model, monkeypatch, tmp_path, caplog
):
    def download(*arguments, **options):
        raise LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path)
    shutil.copy(HEAD_OVER_DINOV2, tmp_path)
    with pytest.raises(DownloadError, match="no route to host"):
        load_segmenter()
    shutil.copy(model, tmp_path / FILE)
    named = load_segmenter(model, resolution=24)
    assert load_segmenter(resolution=24).settings() == named.settings()
    (told,) = caplog.messages
    assert told.startswith("using the built-in model, whose masks are worse")
    for source, weights in (("dinov2", None), (None, "hf:timm/other")):
        with pytest.raises(DownloadError, match="no route to host"):
            load_segmenter(source, weights=weights)


def test_a_folder_of_its_name_is_named_otherwise(model, monkeypatch, tmp_path):
    monkeypatch.setattr(builtin_model, "FOLDER", model.parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builtin").write_bytes(model.read_bytes())
    assert find_source("builtin") == model
    for path in ("./builtin", Path("builtin")):
        assert find_source(path) == Path("builtin")


def test_an_installation_without_it_says_what_to_name(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path)
    for load in (builtin_model_path, load_segmenter, lambda: find_source("builtin")):
        with pytest.raises(FileNotFoundError, match=r"no built-in model: name a run .*--workdir"):
            load()


@pytest.mark.slow
def test_segment_uses_it_without_workdir(model, tmp_path):
    write_scenes(tmp_path, 2, size=48)
    out = tmp_path / "out"
    arguments = ("segment", tmp_path / "images", "--out", out, "--outputs=mask", "--batch_size=1")
    missing = run_with_builtin_model(tmp_path / "nothing", *arguments)
    assert missing.returncode == 1
    assert own_words(missing.stderr).startswith(
        "error: this installation of sempart_jax has no built-in"
    )
    assert not out.exists()
    named = run_with_builtin_model(tmp_path / "nothing", "evaluate", "--workdir=builtin")
    assert (named.returncode, named.stderr) == (1, missing.stderr)
    finished = run_with_builtin_model(model.parent, *arguments)
    assert finished.returncode == 0, finished.stderr
    named = load_segmenter(model, batch_size=1)
    for path in (tmp_path / "images").iterdir():
        mask = named(read_image(path)) > 0.5
        assert 0 < mask.mean() < 1
        written = read_grey(out / "masks" / f"{path.stem}.png") > 0
        # Another optimisation of the compiler rounds otherwise.
        assert np.mean(written != mask) < 0.01


@pytest.mark.slow
def test_the_page_uses_it_without_workdir(model, tmp_path):
    missing = run_with_builtin_model(tmp_path, "app")
    assert missing.returncode == 1
    assert own_words(missing.stderr).startswith(
        "error: this installation of sempart_jax has no built-in"
    )
    # The page itself needs gradio, which need not be installed: it is given the network here.
    instead = f"""
import sys, types
import numpy as np

def serve(predict, *, examples, **options):
    np.savez({str(tmp_path / "shown.npz")!r}, image=examples[0], mask=predict(examples[0]))

sys.modules["sempart_jax.web.serving"] = types.SimpleNamespace(serve=serve)
"""
    finished = run_with_builtin_model(model.parent, "app", first=instead)
    assert finished.returncode == 0, finished.stderr
    with np.load(tmp_path / "shown.npz") as shown:
        (mask,) = load_segmenter(model, batch_size=1).predictor([shown["image"]])
        np.testing.assert_allclose(shown["mask"], mask, atol=1e-3)


def test_it_is_among_the_files_of_the_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["sempart_jax"]
    for path in (PACKAGED, HEAD_OVER_DINOV2):
        name = str(path.relative_to(Path(sempart_jax.__file__).parent))
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


@pytest.mark.skipif(not PACKAGED.is_file(), reason="this installation has no built-in model")
def test_the_packaged_model_is_small_and_works():
    assert PACKAGED.stat().st_size <= LARGEST
    description = read_description(PACKAGED)
    assert (description.backbone, description.patch_size) == ("none", 16)
    assert (description.network, description.compute_dtype) == ("unet", "float32")
    with safetensors.safe_open(PACKAGED, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - the file is no dictionary
            tensor = file.get_slice(name)
            expected = "BF16" if len(tensor.get_shape()) > 1 else "F32"
            assert tensor.get_dtype() == expected, name
    assert any(name.startswith(HEAD) for name in read_tensors(PACKAGED))
    image, truth = synthetic_scene(np.random.default_rng(1), 128)
    mask = load_segmenter("builtin")(image)
    assert mask.shape == truth.shape[:2]
    assert mask.std() > 0.1, "it tells parts of the image apart"


def test_the_packaged_head_says_over_which_weights_it_was_trained():
    assert HEAD_OVER_DINOV2.stat().st_size <= 1_600_000
    description = read_description(HEAD_OVER_DINOV2)
    assert (description.network, description.backbone) == ("sempart", "dinov2_vits14")
    assert (description.features, description.short_side) == ("tokens", 322)
    assert description.foreground_chosen
    assert len(description.backbone_fingerprint) == 16
    assert not read_tensors(HEAD_OVER_DINOV2, BACKBONE)


@pytest.mark.slow
def test_the_packaged_head_runs_and_tells_other_weights(caplog):
    segmenter = load_segmenter(weights="random", resolution=56, batch_size=1)
    assert sum("not those that the head in" in message for message in caplog.messages) == 1
    image, _ = synthetic_scene(np.random.default_rng(1), 64)
    mask = segmenter(image)
    assert mask.shape == image.shape[:2]
    assert np.isfinite(mask).all()
