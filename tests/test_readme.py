"""What the README says: its Python runs, its files and flags exist."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from sempart_jax import default_config as fields
from sempart_jax.data.synthetic import write_scenes
from sempart_jax.model_file import write_model
from sempart_jax.models.handcrafted import HandcraftedBackbone
from sempart_jax.models.head import SegmentationHead
from sempart_jax.models.network import TrainedNetwork
from sempart_jax.models.segmenter import Segmenter
from tests.commands import REPOSITORY, SMALL

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)).replace("\\\n", " ")


@pytest.fixture
def model(tmp_path):
    segmenter = Segmenter(HandcraftedBackbone(), SegmentationHead(patch_size=8))
    variables = segmenter.init(jax.random.key(0), {}, 32)
    network = TrainedNetwork(segmenter, {}, variables, 32, "handcrafted", "float32", "drawn")
    write_model(tmp_path / "model.safetensors", network)
    return tmp_path / "model.safetensors"


def test_segmenter_example_runs(model):
    (example,) = [block for block in PYTHON if "load_segmenter" in block]
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    names = {"image": image}
    exec(example.replace("runs/demo", str(model)), names)
    assert names["mask"].shape == (30, 40)
    assert 0 <= names["mask"].min() <= names["mask"].max() <= 1
    assert len(names["masks"]) == 2


def test_filter_example_runs():
    (example,) = [block for block in PYTHON if "guided_filter" in block]
    names = {}
    exec(example, names)
    assert names["sharpened"].shape == (320, 320, 1)


@pytest.mark.slow
def test_training_example_runs(tmp_path, monkeypatch):
    def small_config(default=fields.default_config):
        config = default()
        config.update_from_flattened_dict({**SMALL, "steps": 2})
        return config

    monkeypatch.setattr(fields, "default_config", small_config)
    monkeypatch.chdir(tmp_path)
    write_scenes("data/ECSSD", 8, 40, seed=0)
    Path("data/ECSSD/masks").rename("data/ECSSD/ground_truth_mask")
    Path("photos").symlink_to("data/ECSSD/images")
    (example,) = [block for block in PYTHON if "default_config" in block]
    names = {}
    exec(example, names)
    assert 0 < names["iou"] <= 1
    assert Path("runs/mine/checkpoints/2").is_dir()


def test_every_example_is_run_here():
    assert len(PYTHON) == 3


def test_linked_files_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) >= 6
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_commands_exist_with_their_flags():
    commands = re.findall(r"python (-m sempart_jax\.(\w+)|scripts/(\w+)\.py)([^\n|]*)", SHELL)
    assert len(commands) >= 8
    for _, module, script, arguments in commands:
        named = re.findall(r"--([\w]+)", arguments)
        source = REPOSITORY / (f"sempart_jax/{module}.py" if module else f"scripts/{script}.py")
        text = source.read_text(encoding="utf-8")
        if "program.run(" in text:
            text += (REPOSITORY / "sempart_jax/training/program.py").read_text(encoding="utf-8")
        for flag in set(named) - {"config"}:
            assert f'"{flag}"' in text or f'"--{flag}"' in text, (source.name, flag)
