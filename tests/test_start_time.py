"""What is asked for help or mistyped is answered before anything slow is imported."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.commands import REPOSITORY

SLOW = {
    *("jax", "jaxlib", "flax", "optax", "orbax", "grain", "scipy", "tensorflow_datasets"),
    *("matplotlib", "gradio"),
}
"""Packages whose import takes a third of a second, or seconds."""

SEGMENT, EVALUATE, TRAIN, PRETRAIN, APP = "segment", "evaluate", "train", "pretrain", "app"
PHOTO = ("DIR/photo.png", "--out=DIR/out")
TRICKS, DINO = "--config=configs/tricks.py", "--config=configs/dino_pretrain.py"


@pytest.fixture
def folder(tmp_path):
    """A folder that is no run, with a picture and a file that is no model."""
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    return tmp_path


def start(module, arguments, folder, **environment):
    """Start a program, ``DIR`` in its arguments being the folder."""
    command = [sys.executable, "-X", "importtime", "-m", f"sempart_jax.{module}"]
    return subprocess.run(
        [*command, *(argument.replace("DIR", str(folder)) for argument in arguments)],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if not k.startswith("JAX_")} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def imported(finished):
    """Return the packages that a program has imported."""
    lines = [line for line in finished.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("module", [SEGMENT, EVALUATE, TRAIN, PRETRAIN, APP])
def test_help_lists_a_programs_own_flags_at_once(module, tmp_path):
    finished = start(module, ["--help"], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "--workdir" in finished.stdout
    assert f"-m sempart_jax.{module}" in finished.stdout
    assert "absl" in imported(finished)
    assert not imported(finished) & SLOW


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (SEGMENT, ["DIR/photo.png", "--refime=none"], "flag 'refime'"),
        (SEGMENT, ["DIR/photo.png", "--refine=guidde"], "should be one of <none|guided|"),
        (SEGMENT, ["DIR/photo.png", "--method=losst"], "should be one of <tokencut|maskcut|lost|"),
        (SEGMENT, ["--out=DIR/out"], "give images, folders or patterns"),
        (SEGMENT, ["DIR/photo.png"], "give an output folder"),
        (SEGMENT, ["DIR/no.png", "--out=DIR/out", "--method=lost"], "no file or folder"),
        (SEGMENT, [*PHOTO, "--workdir=DIR/no"], "no does not exist"),
        (SEGMENT, [*PHOTO, "--workdir=DIR"], "no run in"),
        (SEGMENT, [*PHOTO, "--workdir=DIR", "--method=lost"], "give either --workdir or --method"),
        (
            SEGMENT,
            [*PHOTO, "--method=lost", "--backbone=dino_vit8"],
            "unknown backbone 'dino_vit8'",
        ),
        (SEGMENT, [*PHOTO, "--method=lost", "--threshold=2"], "--threshold lies in [0, 1)"),
        (SEGMENT, [*PHOTO, "--method=lost", "--shard=4/4"], "--shard is i/n with i from 0 to n-1"),
        (SEGMENT, [*PHOTO, "--decoder=d.pt"], "--decoder needs --method=found_multi or"),
        (SEGMENT, [*PHOTO, "--method=lost", "--decoder=d.pt"], "lost has no decoder: leave it out"),
        (SEGMENT, [*PHOTO, "--method=priors", "--weights=w"], "no backbone: leave weights out"),
        (
            SEGMENT,
            [*PHOTO, "--method=found_multi", "--backbone=handcrafted"],
            "handcrafted has no class token",
        ),
        (EVALUATE, ["--protocol=native"], "flag 'protocol'"),
        (EVALUATE, ["--foreground_rule=imgae"], "should be one of <batch|image|none>"),
        (EVALUATE, [], "give exactly one of --workdir, --method, --predictions, --boxes"),
        (EVALUATE, ["--workdir=DIR/no"], "no does not exist"),
        (EVALUATE, ["--workdir=DIR", "--datasets=ecsd"], "unknown data set 'ecsd'"),
        (EVALUATE, ["--method=lost", "--protocols=crop32"], "unknown protocol 'crop32'"),
        (EVALUATE, ["--method=lost", "--postprocessings=crf"], "unknown post-processing 'crf'"),
        (EVALUATE, ["--method=lost", "--backbone=dino_vit8"], "unknown backbone 'dino_vit8'"),
        (EVALUATE, ["--method=priors", "--backbone=x"], "priors has no backbone: leave backbone"),
        (EVALUATE, ["--method=priors", "--features=keys"], "priors has no backbone: leave feature"),
        (EVALUATE, ["--predictions=DIR/no", "--datasets=ecssd"], "no folder"),
        (EVALUATE, ["--boxes=DIR/no.json", "--datasets=voc07"], "no.json does not exist"),
        (TRAIN, ["--confg=configs/tricks.py"], "flag 'confg'"),
        (TRAIN, [], "give an experiment"),
        (TRAIN, ["--config=configs/no.py"], "No such file"),
        (TRAIN, [TRICKS, "--config.batchsize=1"], "did you mean config.batch_size"),
        (TRAIN, [TRICKS, "--config.batch_size=0"], "config.batch_size must be at least 1"),
        (TRAIN, [TRICKS, "--config.network=semparrt"], "config.network must be one of"),
        (TRAIN, [TRICKS, "--config.backbone.name=vits8"], "unknown backbone 'vits8'"),
        (TRAIN, [TRICKS, "--config.data.train=DIR/no"], "no folder"),
        (PRETRAIN, ["--confg=configs/dino_pretrain.py"], "flag 'confg'"),
        (PRETRAIN, [], "give an experiment"),
        (PRETRAIN, [DINO, "--config.dino.temperature=1"], "unknown field config.dino.temp"),
        (PRETRAIN, [DINO, "--config.backbone.name=vits8"], "config.backbone.name must be one of"),
        (PRETRAIN, [DINO, "--config.data.train=DIR/no"], "no folder"),
        (APP, ["--prot=1"], "flag 'prot'"),
        (APP, ["--port=x"], "flag --port=x"),
        (APP, ["--workdir=DIR/no"], "no does not exist"),
    ],
)
def test_what_is_mistyped_is_told_at_once(module, arguments, message, folder):
    finished = start(module, arguments, folder)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not imported(finished) & SLOW
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (SEGMENT, [*PHOTO, "--workdir=DIR/model.safetensors"]),
        (EVALUATE, ["--workdir=DIR/model.safetensors"]),
        (TRAIN, [TRICKS, "--config.data.train=DIR/empty", "--workdir=DIR/run"]),
        (PRETRAIN, [DINO, "--config.data.train=DIR/empty", "--workdir=DIR/run"]),
        (APP, ["--workdir=DIR/model.safetensors"]),
    ],
)
def test_what_makes_sense_imports_jax_and_keeps_what_it_compiles(module, arguments, folder):
    finished = start(module, arguments, folder, XDG_CACHE_HOME=str(folder / "cache"))
    assert finished.returncode == 1
    assert "error: " in finished.stderr
    assert "jax" in imported(finished)
    assert (folder / "cache/sempart_jax/compiled").is_dir()
