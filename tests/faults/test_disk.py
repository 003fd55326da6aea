"""Working directories that are full, damaged, read-only, in use, emptied or gone."""

import os
import resource
import shutil

import numpy as np
import pytest

from sempart_jax.host.errors import WriteError
from sempart_jax.host.folder_lock import FolderInUseError, locked
from sempart_jax.runs.default_config import default_config
from sempart_jax.runs.load_network import load_network
from sempart_jax.runs.run_record import ResumeError, note_kept_step, register_run
from sempart_jax.train import train
from tests.commands import SMALL
from tests.faults.disks import mounted_disk
from tests.faults.small_training import (
    A_WHILE,
    STEPS,
    assert_same_end,
    checkpoint_steps,
    finish,
    logged_steps,
    start,
    wait_until,
)

ROOM_FOR_TWO_CHECKPOINTS = 22
"""Megabytes; one is the best by validation."""


@pytest.fixture
def config(scenes):
    """For trainings in this process, which has eight devices."""
    config = default_config()
    config.update_from_flattened_dict(SMALL)
    config.data.train = str(scenes / "images")
    config.batch_size = 8
    return config


def last_error(said):
    """What follows ``error:``, which is there once and at the end."""
    for noise in ("Traceback", "Event loop", "never retrieved"):
        assert noise not in said
    (_, error) = said.split("error: ")
    return error.strip()


@pytest.mark.slow
def test_a_full_disk_ends_the_training_which_continues_when_there_is_room(
    straight, scenes, tmp_path
):
    with mounted_disk(tmp_path, ROOM_FOR_TWO_CHECKPOINTS) as disk:
        workdir = tmp_path / "run"
        with start(workdir, scenes) as group:
            if not disk.mounted:
                wait_until(lambda: checkpoint_steps(workdir), group)
                limit = (1_000_000, 1_000_000)
                resource.prlimit(group.processes[0].pid, resource.RLIMIT_FSIZE, limit)
            assert group.wait(A_WHILE) == [1], group.everything()
            error = last_error(group.said(0))
        reason = "No space left on device" if disk.mounted else "File too large"
        assert error == (
            f"cannot write {workdir}/checkpoints: {reason}. Fix this and repeat the "
            "command to continue from the last checkpoint"
        )
        kept = checkpoint_steps(workdir)
        assert kept
        assert max(kept) < STEPS
        if disk.mounted:
            disk.change("size=200m")
        assert f"steps {max(kept)} to {STEPS}" in finish(workdir, scenes)
        assert_same_end(workdir, straight)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_continued(
    straight, scenes, tmp_path
):
    workdir = shutil.copytree(straight, tmp_path / "run")
    newest = workdir / "checkpoints" / str(STEPS)
    values = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = np.frombuffer(values.read_bytes(), np.uint8).copy()
    # In the parameters as well as in what the optimizer notes of them.
    content[len(content) // 16 :: 1 << 16] ^= 1
    values.write_bytes(content.tobytes())
    shutil.rmtree(workdir / "best")
    with pytest.raises(ValueError, match=rf"{newest} is damaged.*Choose another checkpoint"):
        load_network(workdir)
    said = finish(workdir, scenes)
    warnings = [line for line in said.splitlines() if "is damaged" in line]
    assert len(warnings) == 1
    assert f"{newest} is damaged" in warnings[0]
    assert f"Renamed to {newest}.damaged; continuing from step {STEPS - 1}" in warnings[0]
    assert "Event loop" not in said
    assert_same_end(workdir, straight)
    assert checkpoint_steps(workdir) == [STEPS - 2, STEPS - 1, STEPS]


@pytest.mark.slow
@pytest.mark.skipif("SEMPART_KILLS" not in os.environ, reason="part of make faults")
def test_a_removed_directory_ends_the_training_and_is_not_made_again(scenes, tmp_path):
    workdir = tmp_path / "run"
    with start(workdir, scenes, steps=10_000) as group:
        wait_until(lambda: 3 in logged_steps(workdir), group)
        workdir.rename(tmp_path / "elsewhere")
        assert group.wait(A_WHILE) == [1], group.everything()
        assert last_error(group.said(0)).startswith(f"cannot write {workdir}")
    assert not workdir.exists()


@pytest.mark.slow
def test_a_read_only_run_can_be_loaded_and_not_continued(straight, config, tmp_path):
    with mounted_disk(tmp_path, 100) as disk:
        workdir = shutil.copytree(straight, tmp_path / "run")
        shutil.rmtree(workdir / "best")
        if disk.mounted:
            disk.change("ro")
        elif os.geteuid():
            for path in (workdir, *workdir.iterdir()):
                path.chmod(path.stat().st_mode & ~0o222)
        else:
            pytest.skip("root may write everywhere, and may not mount here")
        assert load_network(workdir).origin == f"run {workdir}, step {STEPS}, last"
        with pytest.raises(WriteError, match=rf"cannot write {workdir}"):
            train(config, workdir)


@pytest.mark.slow
def test_a_second_training_in_the_same_directory_is_refused(config, tmp_path):
    workdir = tmp_path / "run"
    named = rf"run is in use by process {os.getpid()} on \S+: wait"
    with locked(workdir, "--workdir"), pytest.raises(FolderInUseError, match=named):
        train(config, workdir)
    assert not (workdir / "config.json").exists()


@pytest.mark.slow
def test_a_run_without_its_checkpoints_is_not_started_over(config, tmp_path):
    register_run(tmp_path, config, {}, last_step=10, default=config, resumable_fields=())
    note_kept_step(tmp_path, 7)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ResumeError, match=r"checkpoints of the run in .* are gone"):
        train(config, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
