"""What ``make demo`` shows of photographs, with the training left out."""

import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.folder import find_images
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
def test_photographs_are_segmented_by_the_built_in_model(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builtin_model, "FOLDER", tmp_path)
    write_small_model(tmp_path / builtin_model.FILE)
    demo()
    sheet = tmp_path / "demo/photographs.png"
    with Image.open(sheet) as image:
        width, height = image.size
        pixels = np.asarray(image)
    rows = len(find_images(REPOSITORY / "examples/photographs"))
    assert rows > 3
    assert height > 100 * rows
    # Each column shows something of its own.
    assert all(part.std() > 10 for part in np.array_split(pixels, 4, axis=1)), (width, height)
    shown = capsys.readouterr().out
    assert "fine mask after training" in shown
    assert str(sheet) in shown
