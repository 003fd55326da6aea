"""The stages that make the built-in model, with entry points that cost no time."""

import dataclasses
import re

import jax
import pytest

from sempart_jax import builtin_model
from sempart_jax.model_format import read_description
from sempart_jax.reproduction import builtin
from sempart_jax.reproduction.builtin import STAGES, BuiltinModel, Recipe, export_network, install
from sempart_jax.reproduction.module_commands import ModuleCommands
from tests.reproduction.fake_processes import after
from tests.small_model import small_network


class Stages:
    """The stages over the fake processes."""

    def __init__(self, processes, out, data_root):
        self.processes, self.out, self.data_root = processes, out, data_root

    def run(self, *names, recipe=None, resolutions=(128,), dry_run=False):
        """Return which stages are done, the commands that were started, and what was left out."""
        self.commands = ModuleCommands(dry_run=dry_run)
        self.model = BuiltinModel(
            self.commands,
            recipe or Recipe(self.out / "photos"),
            out=self.out,
            data_root=self.data_root,
            resolutions=resolutions,
        )
        done = [getattr(self.model, name)() for name in names]
        return done, self.processes.take(), self.commands.left_out


@pytest.fixture
def stages(tmp_path, data_root, processes, monkeypatch):
    def export(path, run, *, weights, short_side, title):
        path.write_text(f"{title}, {short_side}, {(run / 'network').read_text()}, {weights}")

    monkeypatch.setattr(builtin, "export_network", export)
    return Stages(processes, tmp_path / "out", data_root)


def values(command):
    return dict(word.removeprefix("--config.").split("=") for word in command if "=" in word)


def test_heads_are_trained_over_the_pretrained_backbone_in_proportion_to_the_images(stages):
    recipe = Recipe(
        stages.out / "photos",
        epochs=7,
        batch_size=64,
        head_epochs=5,
        head_batch_size=72,
        dtype="bfloat16",
        pretrain_args=["--config.seed=1"],
        train_args=["--config.seed=2"],
    )
    done, (pretraining, *trainings), left_out = stages.run("pretrain", "train", recipe=recipe)
    assert (done, left_out) == ([True, True], [])
    backbone = str(stages.out / "backbone")
    assert pretraining[:3] == ["pretrain", "--config", "configs/dino_pretrain.py"]
    assert after(pretraining, "--workdir") == backbone
    assert values(pretraining) == {
        **{"data.train": str(recipe.images), "backbone.name": "vit_tiny8", "seed": "1"},
        **{"backbone.dtype": "bfloat16", "epochs": "7", "batch_size": "64"},
    }
    for variant, training in zip(("baseline", "tricks"), trainings, strict=True):
        assert training[:3] == ["train", "--config", f"configs/{variant}.py"]
        assert after(training, "--workdir") == str(stages.out / variant)
        assert values(training) == {
            **{"data.train": str(recipe.images), "backbone.name": "vit_tiny8", "seed": "2"},
            **{"data.image_size": "128", "data.resize_size": "128"},
            "guided_filter.radius": str(round(9 * 128 / 320)),
            **{"backbone.weights": backbone, "backbone.dtype": "bfloat16"},
            # three times the paper's, for nine times its batch
            **{"epochs": "5", "batch_size": "72", "optimizer.learning_rate": "0.0003"},
        }


def test_what_is_finished_is_not_done_again(stages):
    _, commands, _ = stages.run(*STAGES)
    assert [command[0] for command in commands] == ["pretrain", *["train"] * 2, *["evaluate"] * 5]
    done, commands, _ = stages.run(*STAGES)
    assert (done, commands) == ([True] * 4, [])
    # A backbone that was made anew is another one, though the command line is the same.
    (stages.out / "backbone" / "backbone.safetensors").write_text("another")
    _, commands, _ = stages.run(*STAGES)
    assert [command[0] for command in commands] == ["train", "train", "evaluate"]
    assert after(commands[-1], "--weights") == str(stages.out / "backbone")


def test_no_stage_takes_what_is_not_finished(stages):
    done, commands, left_out = stages.run("train", "export")
    assert (done, commands) == ([False, False], [])
    assert left_out[0] == f"what needs {stages.out}/backbone, which is not trained to its end"
    stages.processes.ended = True
    done, commands, _ = stages.run("pretrain", "train")
    assert (done, [command[0] for command in commands]) == ([False, False], ["pretrain"])
    stages.processes.ended = False
    stages.run("pretrain")
    stages.processes.ended = True
    done, commands, left_out = stages.run("train", "export")
    assert (done, len(commands)) == ([False, False], 2)
    assert [line.split(",")[0][-8:] for line in left_out] == ["baseline", "t/tricks"]
    assert not (stages.out / "model.safetensors").exists()


def test_all_candidates_are_scored_at_each_resolution(stages):
    _, commands, _ = stages.run(*STAGES, resolutions=(128, 192))
    scorings = [command for command in commands if command[0] == "evaluate"]
    sources = [command[1 : command.index("--resolution")] for command in scorings]
    vit = ["--method", "tokencut", "--backbone", "vit_tiny8", "--weights"]
    out = stages.out
    for number, source in enumerate(
        (
            ["--method", "tokencut", "--backbone", "handcrafted"],
            [*vit, "random"],
            [*vit, str(out / "backbone")],
            ["--workdir", str(out / "baseline.safetensors")],
            ["--workdir", str(out / "model.safetensors")],
        )
    ):
        assert sources[2 * number : 2 * number + 2] == [source, source]
    assert [after(command, "--resolution") for command in scorings] == ["128", "192"] * 5
    for command in scorings:
        assert after(command, "--protocols") == "native"
        assert after(command, "--postprocessings") == "none,guided"
        assert after(command, "--datasets") == "duts_te,ecssd"
    titles = [(each.title, each.short_side) for each in stages.model.scored]
    assert titles[0] == ("TokenCut, colour and texture", 128)
    assert titles[-1] == ("Sempart, both tricks", 192)
    assert len(titles) == 10
    # The file that is scored is the one that is installed, at the first resolution.
    exported = (out / "model.safetensors").read_text()
    assert exported.startswith("Sempart, both tricks, 128, --config configs/tricks.py")
    assert exported.endswith(f", {out}/backbone")
    (out / "model.safetensors").write_text("another")
    _, commands, _ = stages.run("evaluate", resolutions=(128, 192))
    assert [after(command, "--workdir") for command in commands] == [
        str(out / "model.safetensors")
    ] * 2


def test_what_is_not_there_is_left_out_of_the_scores(stages):
    done, commands, left_out = stages.run("evaluate")
    assert done == [False]
    assert [after(command, "--backbone") for command in commands] == ["handcrafted", "vit_tiny8"]
    assert [line.split(":")[0] for line in left_out] == [
        *("TokenCut, pretrained ViT-Ti/8", "Sempart, baseline", "Sempart, both tricks")
    ]


def test_a_dry_run_shows_every_command(stages, capsys):
    stages.run(*STAGES, dry_run=True)
    shown = re.findall(r"-m sempart_jax\.(\w+)", capsys.readouterr().out)
    assert shown == ["pretrain", "train", "train", *["evaluate"] * 5]
    assert not stages.out.exists()


@pytest.fixture
def network(monkeypatch):
    drawn = dataclasses.replace(small_network(dtype="bfloat16"), head_dtype="bfloat16")
    monkeypatch.setattr(builtin, "load_trained", lambda run, *, weights: drawn)
    return drawn


def test_a_model_file_is_for_any_machine(network, tmp_path):
    path = tmp_path / "model.safetensors"
    options = {"weights": tmp_path, "title": "Sempart, both tricks"}
    export_network(path, tmp_path, short_side=192, **options)
    description = read_description(path)
    assert (description.compute_dtype, description.head_dtype) == ("float32", "float32")
    assert description.short_side == 192
    assert description.filter_radius == 4
    assert description.origin.startswith(
        "Sempart, both tricks, over a vit_tiny8 pretrained by DINO"
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(network.variables))
    assert path.stat().st_size < 2.2 * parameters


def test_a_model_that_is_too_large_is_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_model, "LARGEST", 10_000)
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"would have [\d,]+ bytes, .* has 10,000 at most"):
        export_network(path, tmp_path, weights=tmp_path, short_side=32, title="large")
    assert not path.exists()


def test_a_model_is_put_into_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path / "package" / "builtin")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert install(tmp_path / "model.safetensors") == builtin_model.builtin_model_path()
    assert builtin_model.builtin_model_path().read_bytes() == b"weights"
    with pytest.raises(FileNotFoundError):
        install(tmp_path / "absent.safetensors")


def test_the_recipe_is_that_of_the_experiments(tmp_path):
    recipe = Recipe(tmp_path)
    plain = dataclasses.replace(recipe, head_batch_size=8)
    assert values(plain.training("tricks", tmp_path))["optimizer.learning_rate"] == "0.0001"
    assert values(recipe.pretraining(tmp_path))["epochs"] == "400"
