"""What ``make demo`` shows of the built-in model, with the training left out."""

import runpy
import sys

import numpy as np
import pytest

from sempart_jax.data.images import read_grey
from sempart_jax.evaluation.results import CENTRE_BOX
from sempart_jax.metrics.saliency import SaliencyScores
from sempart_jax.networks import builtin_model
from tests.commands import REPOSITORY
from tests.small_model import write_small_model


def perfect():
    scores = SaliencyScores()
    scores.update(np.eye(4, dtype=np.float32), np.eye(4, dtype=bool))
    return scores.compute()


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The script, whose training takes no time."""

    def train(config, workdir):
        return {0: dict.fromkeys(("fine", "refined", CENTRE_BOX), perfect())}

    def run():
        script = runpy.run_path(str(REPOSITORY / "scripts/demo.py"), run_name="demo")
        script["main"].__globals__["train"] = train
        script["main"]()

    arguments = ["--train_scenes=1", "--test_scenes=2", "--workdir", str(tmp_path / "demo")]
    monkeypatch.setattr(sys, "argv", ["demo.py", *arguments])
    return run


@pytest.mark.slow
def test_the_built_in_model_is_shown_on_the_scenes(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path)
    write_small_model(tmp_path / builtin_model.FILE)
    demo()
    scenes = tmp_path / "demo/scenes/test"
    ious = []
    for path in sorted((scenes / "images").iterdir()):
        for kind in ("masks", "overlays", "cutouts"):
            assert len(list((tmp_path / "demo/builtin" / kind).glob(f"{path.stem}.*"))) == 1
        mask = read_grey(tmp_path / "demo/builtin/masks" / f"{path.stem}.png") > 127
        truth = read_grey(scenes / "masks" / path.name) > 127
        ious.append((mask & truth).sum() / (mask | truth).sum())
    shown = capsys.readouterr().out
    assert f"the built-in model             IoU {np.mean(ious):.3f}" in shown
    assert f"{tmp_path}/demo/builtin" in shown


def test_without_it_nothing_is_said(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path)
    demo()
    shown = capsys.readouterr().out
    assert "fine mask after training" in shown
    assert "built-in" not in shown
