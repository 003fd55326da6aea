"""Trained networks from wherever they are kept."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from sempart_jax.networks.model_file import write_model
from sempart_jax.networks.porting import port_head
from sempart_jax.runs import load_network as loading
from sempart_jax.runs.checkpoints import Checkpoints
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.experiment import build_experiment
from sempart_jax.runs.load_network import load_network
from sempart_jax.runs.run_record import register_run
from tests.networks.test_porting import head_state
from tests.two_tricks import dino_reference


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with checkpoints of the steps 3 and 5, and step 4 as its best."""
    workdir = tmp_path_factory.mktemp("runs") / "small"
    config = default_config()
    config.backbone.name = "handcrafted"
    config.data.image_size = 32
    config.guided_filter.radius = 2
    register_run(workdir, config, {}, last_step=10, default=config, resumable_fields=())
    zeros = build_experiment(config, last_step=5).empty_state(32)

    def state(step):
        filled = jax.tree.map(lambda leaf: np.full(leaf.shape, step, leaf.dtype), zeros)
        return filled.replace(step=np.asarray(step, np.int32))

    for name, steps in (("checkpoints", (3, 5)), ("best", (4,))):
        with Checkpoints(workdir, name=name, best=name == "best") as checkpoints:
            for step in steps:
                checkpoints.save(state(step), score=0.5 if name == "best" else None)
    return workdir


def test_of_a_run_with_an_average_that_is_what_predicts(tmp_path):
    config = default_config()
    config.backbone.name = "handcrafted"
    config.data.image_size = 32
    config.optimizer.average_decay = 0.9
    register_run(tmp_path, config, {}, last_step=1, default=config, resumable_fields=())
    zeros = build_experiment(config, last_step=1).empty_state(32)
    filled = jax.tree.map(lambda leaf: np.full(leaf.shape, 2, leaf.dtype), zeros.average)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(zeros.replace(step=np.asarray(1, np.int32), average=filled))
    for place in (tmp_path, tmp_path / "checkpoints" / "1"):
        assert value_of(load_network(place)) == 2


@pytest.fixture
def head(tmp_path):
    """A head by its released names, for patches of 8 pixels and keys of 384 channels."""
    path = tmp_path / "segmenter.npz"
    np.savez(path, **head_state(channels=384, stages=3))
    return path


def value_of(network):
    """Return the number that all parameters of a test's checkpoint are filled with."""
    values = {float(x) for leaf in jax.tree.leaves(network.variables) for x in leaf.flat}
    (value,) = values
    return value


@pytest.mark.parametrize(
    ("place", "step", "words"),
    [
        ("", 4, "best by validation"),
        ("checkpoints/3", 3, "chosen by path"),
        ("checkpoints/5", 5, "chosen by path"),
        ("best/4", 4, "chosen by path"),
    ],
)
def test_runs_and_checkpoints(run, place, step, words):
    network = load_network(run / place)
    assert value_of(network) == step
    assert network.origin == f"run {run}, step {step}, {words}"
    assert (network.backbone, network.dtype) == ("handcrafted", "float32")
    assert (network.short_side, network.patch_size) == (32, 8)
    assert network.modules.radius == 2


@pytest.mark.parametrize(
    ("head", "dtype"), [(None, "float32"), ({"dtype": "bfloat16"}, "bfloat16")]
)
def test_a_run_from_before_the_head_had_a_type_is_one_in_float32(run, tmp_path, head, dtype):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    fields = json.loads(file.read_text())
    assert fields.pop("head")["dtype"] == "float32"
    file.write_text(json.dumps(fields if head is None else fields | {"head": head}))
    network = load_network(tmp_path / "run")
    assert network.head_dtype == dtype
    assert network.modules.head.dtype == dtype


def test_a_checkpoint_is_found_from_within_its_run(run, monkeypatch):
    monkeypatch.chdir(run / "checkpoints")
    assert value_of(load_network("3")) == 3
    monkeypatch.chdir(run)
    assert value_of(load_network("checkpoints/5")) == 5
    assert value_of(load_network(".")) == 4


def test_without_validation_the_last_checkpoint_is_taken(run, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_bytes((run / "config.json").read_bytes())
    (copy / "checkpoints").symlink_to(run / "checkpoints")
    network = load_network(copy)
    assert value_of(network) == 5
    assert network.origin.endswith(", last")


def test_no_optimizer_is_built_and_none_of_its_state_is_read(run, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("prediction has no use for an optimizer")

    monkeypatch.setattr("optax.adamw", refuse)
    monkeypatch.setattr("sempart_jax.two_tricks.train_step.create_train_state", refuse)
    monkeypatch.setattr(Checkpoints, "restore", refuse)
    assert value_of(load_network(run)) == 4
    assert value_of(load_network(run / "checkpoints/3")) == 3


def test_a_damaged_array_of_the_parameters_is_found(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for step in ("3", "5"):
        arrays = tmp_path / "run/checkpoints" / step / "default"
        shutil.rmtree(arrays)
        shutil.copytree(run / "best/4/default", arrays)
    with pytest.raises(ValueError, match=r"checkpoints/3 is damaged: its contents have changed"):
        load_network(tmp_path / "run/checkpoints/3")
    shutil.rmtree(tmp_path / "run/best")
    with pytest.raises(ValueError, match=r"5 is damaged: .*\. Choose another checkpoint: .*/STEP"):
        load_network(tmp_path / "run")


def test_a_model_file_is_the_run_it_was_written_from(run, tmp_path):
    network = load_network(run)
    write_model(tmp_path / "model.safetensors", network)
    found = load_network(tmp_path / "model.safetensors")
    assert value_of(found) == 4
    assert found.origin == f"model file {tmp_path / 'model.safetensors'} ({network.origin})"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_released_head_with_the_backbone_that_is_named(tmp_path, suffix):
    state, path = head_state(channels=384, stages=3), tmp_path / f"segmenter{suffix}"
    if suffix == ".npz":
        np.savez(path, **state)
    else:
        safetensors.numpy.save_file(state, path)
    network = load_network(path, backbone="handcrafted")
    jax.tree.map(np.testing.assert_array_equal, network.variables, port_head(state))
    assert (network.backbone, network.short_side, network.patch_size) == ("handcrafted", 320, 8)
    assert (network.modules.radius, network.modules.filter_eps) == (9, 1e-3)
    assert network.origin == f"released head {path}"


def test_backbone_and_weights_of_a_released_head(head, monkeypatch):
    asked = []
    original = loading.load_backbone

    def load_backbone(name, weights):
        asked.append((name, weights))
        return original("handcrafted")

    monkeypatch.setattr(loading, "load_backbone", load_backbone)
    load_network(head)
    load_network(head, weights=head.with_name("dino.pth"))
    assert asked == [("dino_vits8", ""), ("dino_vits8", str(head.with_name("dino.pth")))]


def test_a_head_of_patch_16_needs_its_backbone_named(tmp_path):
    path = tmp_path / "head.npz"
    np.savez(path, **head_state(channels=384, stages=4))
    with pytest.raises(
        ValueError, match=r"backbone of the head in .*head\.npz: .*dino_vits16 from ibot_vits16"
    ):
        load_network(path)
    with pytest.raises(
        ValueError, match=r"for patches of 16 pixels .* 384 channels, but handcrafted has 8 and 384"
    ):
        load_network(path, backbone="handcrafted")
    with pytest.raises(ValueError, match="unknown backbone 'dino'"):
        load_network(path, backbone="dino")


def test_another_backbone_than_the_trained_one_is_refused(run):
    with pytest.raises(ValueError, match="was trained on handcrafted, not on dino_vits8: do not"):
        load_network(run, backbone="dino_vits8")
    assert load_network(run, backbone="handcrafted").backbone == "handcrafted"


def test_what_is_no_source_is_told_with_what_was_found(run, head, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "model.json").write_text("{}")
    for source, message in (
        (tmp_path / "absent", "absent does not exist: give a run's directory"),
        (empty, f"no run in {empty}, which holds nothing: give a run's directory"),
        (tmp_path, f"no run in {tmp_path}, which holds empty, exported, segmenter.npz: give a run"),
        (run.parent, f"no run in {run.parent}, but in its subfolders small: give one of them"),
        (run / "checkpoints", "holds checkpoints of these steps: 3, 5; give the run or one"),
        (run / "best", "holds checkpoints of these steps: 4; give the run"),
        (run / "checkpoints" / "7", "7 does not exist: give a run's directory"),
        (exported, "is an exported network: load it with sempart_jax.load_exported"),
    ):
        with pytest.raises(FileNotFoundError) as raised:
            load_network(source)
        assert message in str(raised.value)


def test_a_backbone_is_told_from_a_head(tmp_path):
    vit = dino_reference.seeded_state_dict(patch_size=4, width=8, depth=1, grid=2)
    np.savez(tmp_path / "vit.npz", **vit)
    with pytest.raises(ValueError, match="holds a vision transformer and no head"):
        load_network(tmp_path / "vit.npz")
