"""Programs that start worker processes."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.pipeline import training_batches
from sempart_jax.host import worker_processes
from sempart_jax.pretrain import pretrain
from sempart_jax.runs.default_config import default_config
from sempart_jax.train import train
from sempart_jax.training.pretraining_config import pretraining_config
from tests.commands import REPOSITORY

START = """
from sempart_jax.host.worker_processes import check_workers_can_start
{guard}
    {before}
    check_workers_can_start({workers})
    print("started")
"""


def start(folder, **parts):
    """Run a program that starts workers."""
    program = folder / "program.py"
    program.write_text(START.format(**{"before": "", "workers": 2} | parts))
    return subprocess.run(
        [sys.executable, program],
        env={"PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "parts",
    [{"guard": 'if __name__ == "__main__":'}, {"guard": "if True:", "workers": 0}],
)
def test_a_program_with_a_guard_or_without_workers_starts(tmp_path, parts):
    done = start(tmp_path, **parts)
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


@pytest.mark.parametrize("before", ["", "open('new', 'x')"])
def test_a_program_without_a_guard_is_told_to_have_one(tmp_path, before):
    done = start(tmp_path, guard="if True:", before=before)
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"ValueError: each worker process imports {tmp_path / 'program.py'} ")
    assert 'under `if __name__ == "__main__":`, or set config.data.workers to 0' in told
    # What fails of itself in a worker says so there.
    assert done.stderr.count("Traceback") == (2 if before else 1)


@pytest.mark.parametrize(
    "work",
    [
        lambda: train(default_config(), Path("run")),
        lambda: pretrain(pretraining_config(), Path("run")),
        lambda: training_batches(ImageFiles([Path("a.png")], "."), batch_size=1, seed=0),
    ],
)
def test_work_that_begins_in_a_worker_ends_it_without_a_word(tmp_path, monkeypatch, capfd, work):
    monkeypatch.chdir(tmp_path)
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "name", worker_processes._TRIAL)
    with pytest.raises(SystemExit) as left:
        work()
    assert left.value.code == 1
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
