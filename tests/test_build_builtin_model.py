"""``scripts/build_builtin_model.py`` as a user runs it, with a very small network.

With ``BUILTIN_LONG`` set, the five evaluations are run as well.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from sempart_jax.folder_lock import locked
from sempart_jax.model_file import read_model
from sempart_jax.model_format import read_description
from sempart_jax.models import names
from sempart_jax.pretraining.config import pretraining_config
from sempart_jax.training.run_config import flatten
from tests.commands import REPOSITORY, command_environment
from tests.reproduction.layouts import lay_out
from tests.test_pretrain import FIELDS

LONG = bool(os.environ.get("BUILTIN_LONG"))
SCENES = 4
OF_BOTH = {"steps": 2, "data.image_size": 32, "data.resize_size": 32, "log.panel_images": 0}


def words(fields):
    return " ".join(f"--config.{name}={value}" for name, value in fields.items())


@pytest.fixture
def build(tmp_path):
    lay_out(tmp_path / "data", ["ECSSD", "DUTS/DUTS-TE"], SCENES)
    pretraining = {name: x for name, x in FIELDS.items() if name.split(".")[0] not in ("backbone")}
    command = [sys.executable, "tests/small_vit.py", "scripts/build_builtin_model.py"]
    command += ["--images", tmp_path / "data/ECSSD/images", "--data_root", tmp_path / "data"]
    command += [
        "--out",
        tmp_path / "out",
        "--resolutions=32",
        "--head_batch_size=4",
        "--dtype=bfloat16",
    ]
    command += [f"--pretrain_args={words(pretraining | OF_BOTH | {'batch_size': 4})}"]
    command += [f"--train_args={words(OF_BOTH)}"]

    def run(*arguments):
        return subprocess.run(
            [*map(str, command), *arguments],
            cwd=REPOSITORY,
            env=command_environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.mark.slow
def test_stages_go_on_from_what_is_there_to_a_model_and_its_scores(build, tmp_path, monkeypatch):
    out = tmp_path / "out"
    trained = build("--stages=pretrain,train")
    assert trained.returncode == 0, trained.stderr
    assert re.findall(r"-m sempart_jax\.(\w+)", trained.stdout) == ["pretrain", "train", "train"]
    assert not (out / "model.safetensors").exists()

    finished = build(*(() if LONG else ("--stages=pretrain,train,export",)))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("# finished before: ") == 3
    assert finished.stdout.count("# not run yet") == (5 if LONG else 0)
    if LONG:
        check_scores(out)

    known = names.Architecture(patch_size=8, width=24, depth=2, num_heads=3)
    monkeypatch.setitem(names.BACKBONES, "vit_tiny8", known)
    description = read_description(out / "model.safetensors")
    assert (description.short_side, description.compute_dtype) == (32, "float32")
    assert read_model(out / "model.safetensors").segmenter.radius == 4


def check_scores(out):
    lines = [line for line in (out / "scores.md").read_text().splitlines() if line[:1] == "|"]
    assert len(lines) == 2 + 1 + 2 * 5, "a head, the centre box, five candidates twice"
    assert "–" not in "".join(lines[3:]), "every cell has its number"
    report = out / "scores/tricks_32/evaluation/results.json"
    rows = json.loads(report.read_text())["saliency"]
    (row,) = [r for r in rows if (r["dataset"], r["postprocessing"]) == ("ecssd", "guided")]
    (line,) = [line for line in lines if "both tricks" in line and "guided filter" in line]
    assert line.split("|")[4].strip() == f"{row['iou']:.4f}"


def test_what_makes_no_sense_is_told_in_one_line(build):
    for argument, message in (
        ("--stages=train,bake", "--stages: unknown bake: choose among pretrain, train, export, ev"),
        ("--resolutions=128,wide", "--resolutions=128,wide: give pixels, as 128,256"),
        ("--stages=train", "error: not all is done:\n  what needs "),
    ):
        finished = build(argument)
        assert finished.returncode == 1
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr


def test_a_second_one_at_the_same_time_is_refused(build, tmp_path):
    with locked(tmp_path / "out", "--out"):
        finished = build("--stages=pretrain")
    assert finished.returncode == 1
    assert f"is in use by process {os.getpid()} on" in finished.stderr
    assert "-m sempart_jax" not in finished.stdout


def test_the_model_card_names_flags_that_exist():
    card = (REPOSITORY / "docs/builtin_model.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", card, flags=re.DOTALL)).replace("\\\n", " ")
    commands = re.findall(r"scripts/(\w+)\.py([^\n]*)", blocks)
    assert len(commands) == 4
    for script, arguments in commands:
        source = (REPOSITORY / f"scripts/{script}.py").read_text(encoding="utf-8")
        for flag in re.findall(r"--(\w+)", re.sub("'.*?'", "", arguments)):
            assert f'"{flag}"' in source, flag
    fields = re.findall(r"--config\.([\w.]+)=", card)
    assert len(fields) > 3
    assert set(fields) <= set(flatten(pretraining_config()))
    links = re.findall(r"\]\((?!http)([^)#]+)\)", card)
    assert [link for link in links if not (REPOSITORY / "docs" / link).exists()] == []
