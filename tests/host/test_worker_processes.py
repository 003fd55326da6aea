"""Programs that start worker processes."""

import subprocess
import sys

import pytest
from PIL import Image

from tests.commands import REPOSITORY

WORK = {
    "training_batches": """
        from pathlib import Path
        from sempart_jax.data.image_sources import ImageFiles
        from sempart_jax.data.pipeline import training_batches
        files = [Path("a.png")] * {count}
        sizes = {{"image_size": 8, "resize_size": 8}}
        next(training_batches(ImageFiles(files, "."), batch_size=1, seed=0, workers=1, **sizes))
""",
    "train": """
        from pathlib import Path
        from sempart_jax.runs.default_config import default_config
        from sempart_jax.train import train
        config = default_config()
        config.data.workers = 1
        if __name__ == "__main__":
            from multiprocessing import get_context
            get_context("spawn").Process(target=print).start()
        else:
            train(config, Path("run"))
""",
}


# What is handed over with 20,000 names does not fit into a pipe.
@pytest.mark.parametrize(("work", "count"), [("training_batches", 20_000), ("train", 1)])
def test_a_program_without_a_guard_is_told_to_have_one(tmp_path, work, count):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "program.py").write_text("if True:" + WORK[work].format(count=count))
    done = subprocess.run(
        [sys.executable, "program.py"],
        env={"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0 or work == "train"
    assert "error: each worker process imports the program and must not run it" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
