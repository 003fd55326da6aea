"""What the documents say: Python that runs; files, flags and fields that exist; all the fields."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from sempart_jax.data.synthetic import write_scenes
from sempart_jax.host.config_fields import flatten
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.model_file import write_model
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.runs import default_config as fields
from sempart_jax.training import pretraining_config as pretraining
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from tests.commands import REPOSITORY, SMALL

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
DOCUMENTS = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}


@pytest.fixture
def model(tmp_path):
    segmenter = HeadNetwork(HandcraftedBackbone(), SegmentationHead(patch_size=8))
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
        config.update_from_flattened_dict({**SMALL, "steps": 2, "batch_size": 8})
        return config

    monkeypatch.setattr(fields, "default_config", small_config)
    monkeypatch.chdir(tmp_path)
    write_scenes("data/ECSSD", 8, 40, seed=0)
    Path("data/ECSSD/masks").rename("data/ECSSD/ground_truth_mask")
    Path("photos").symlink_to("data/ECSSD/images")
    (example,) = [block for block in PYTHON if "default_config" in block]
    names = {"__name__": "__main__"}
    exec(example, names)
    assert 0 < names["iou"] <= 1
    assert Path("runs/mine/checkpoints/2").is_dir()


def test_every_example_is_run_here():
    assert len(PYTHON) == 3


@pytest.mark.parametrize("name", DOCUMENTS)
def test_linked_files_exist(name):
    text = DOCUMENTS[name]
    links = re.findall(r"\]\((?!http|#)([^)#]+)[^)]*\)", text)
    folder = (REPOSITORY / name).parent
    assert [link for link in links if not (folder / link).exists()] == []


def shell_commands(text):
    """Return what is called, a module of ours or a script, with its arguments."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, flags=re.DOTALL)
    shell = "\n".join(blocks).replace("\\\n", " ")
    return re.findall(r"python (?:-m sempart_jax\.(\w+)|scripts/([\w/]+)\.py)([^\n|]*)", shell)


def test_commands_are_found():
    assert len(shell_commands(DOCUMENTS["README.md"])) >= 6
    assert len(shell_commands(DOCUMENTS["docs/scaling.md"])) >= 3


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist_with_their_flags(name):
    for module, script, arguments in shell_commands(DOCUMENTS[name]):
        source = REPOSITORY / (f"sempart_jax/{module}.py" if module else f"scripts/{script}.py")
        text = source.read_text(encoding="utf-8")
        for called, file in (
            ("program.run(", "training/program.py"),
            ("define_network_flags(", "predict/options.py"),
        ):
            if called in text:
                text += (REPOSITORY / "sempart_jax" / file).read_text(encoding="utf-8")
        for flag in set(re.findall(r"--([\w]+)", arguments)) - {"config"}:
            assert f'"{flag}"' in text or f'"--{flag}"' in text, (source.name, flag)


FIELDS = {
    "train": flatten(fields.default_config()),
    "pretrain": flatten(pretraining.pretraining_config()),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_fields_exist(name):
    known = set().union(*FIELDS.values())
    named = re.findall(r"--config\.([\w.]*\w)", DOCUMENTS[name])
    unknown = {
        field for field in named if field not in known and not field.isupper()
    }  # FIELD stands for any
    assert unknown == set()


def documented_fields():
    """Return the tables of docs/configuration.md: heading -> field -> (mark, default, meaning)."""
    tables = {}
    for part in DOCUMENTS["docs/configuration.md"].split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        rows = re.findall(r"^\| `([\w.]+)`( \*)? \| (.+?) \| (.*?) ?\|$", body, flags=re.MULTILINE)
        tables[heading] = {field: rest for field, *rest in rows}
    return tables


@pytest.mark.parametrize("program", FIELDS)
def test_every_field_stands_in_the_documents_with_its_default(program):
    tables = documented_fields()
    documented = tables["`train` and `pretrain`"] | tables[f"`{program}`"]
    assert documented.keys() == FIELDS[program].keys()
    del documented["task"]
    defaults = {field: f"`{value!r}`" for field, value in FIELDS[program].items()}
    assert {
        field: default
        for field, (_, default, _) in documented.items()
        if default != defaults[field]
    } == {}


@pytest.mark.parametrize(
    ("program", "resumable"),
    [("train", fields.RESUMABLE_FIELDS), ("pretrain", pretraining.RESUMABLE_FIELDS)],
)
def test_the_fields_that_a_continued_run_may_change_are_marked(program, resumable):
    tables = documented_fields()
    documented = tables["`train` and `pretrain`"] | tables[f"`{program}`"]
    marked = {
        field
        for field, (mark, _, meaning) in documented.items()
        if mark or re.search(rf"[iI]n `{program}` \*", meaning)
    }
    assert marked == {
        field
        for field in FIELDS[program]
        if any(field == one or field.startswith(f"{one}.") for one in resumable)
    }


PACKAGE = REPOSITORY / "sempart_jax"


def rooms():
    """Return the folders of the package, from the bottom to the top."""
    listed = re.findall(r"^\| `(\w+)/` \|", DOCUMENTS["docs/architecture.md"], flags=re.MULTILINE)
    assert set(listed) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return listed


@pytest.mark.parametrize("room", rooms())
def test_no_room_imports_from_one_above(room):
    above = rooms()[rooms().index(room) + 1 :]
    for path in (PACKAGE / room).glob("*.py"):
        imported = re.findall(r"^\s*from sempart_jax\.(\w+)", path.read_text(), flags=re.MULTILINE)
        assert not set(imported) & set(above), path
