"""``scripts/prepare_data.py`` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sempart_jax.data.benchmarks import BENCHMARKS, open_labelled_set
from tests.commands import REPOSITORY, run_train
from tests.data.labelled_files import write_archives, write_unpacked


@pytest.fixture
def trap(tmp_path) -> Path:
    """A folder with a TensorFlow that may not be imported."""
    folder = tmp_path / "trap"
    folder.mkdir()
    (folder / "tensorflow.py").write_text("raise RuntimeError('TensorFlow was imported')")
    return folder


def prepare_data(trap: Path, *arguments) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "scripts/prepare_data.py", *map(str, arguments)],
        cwd=REPOSITORY,
        # No proxy knows the way out either.
        env={
            **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
            "PYTHONPATH": f"{trap}:{REPOSITORY}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "warning: " in line]


def test_all_benchmarks_from_archives_and_folders(tmp_path, trap):
    write_archives("duts_tr", tmp_path / "DUTS", ["a", "b", "c"])
    write_unpacked("duts_te", tmp_path, ["d", "e"])
    write_archives("dut_omron", tmp_path, ["f"])
    write_unpacked("ecssd", tmp_path, ["g", "h"])
    (tmp_path / BENCHMARKS["ecssd"].masks / "h.png").write_bytes(b"no image")

    names = ["duts_tr", "duts_te", "dut_omron", "ecssd"]
    done = prepare_data(trap, *names, "--data_root", tmp_path, "--nodownload")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"duts is prepared: {tmp_path}/tfds/duts/1.0.0",
        "  duts train: 3 images",
        "  duts test: 2 images",
        f"dut_omron is prepared: {tmp_path}/tfds/dut_omron/1.0.0",
        "  dut_omron test: 1 images",
        f"ecssd is prepared: {tmp_path}/tfds/ecssd/1.0.0",
        "  ecssd test: 1 images",
    ]
    told = "\n".join(warnings(done))
    for text in (
        "duts train has 3 images, but 10553 are published",
        "duts test has 2 images, but 5019 are published",
        "dut_omron test has 1 images, but 5168 are published",
        "ecssd test has 1 images, but 1000 are published",
        f"ecssd test: left out 1 images: {tmp_path}/{BENCHMARKS['ecssd'].images}/h.jpg: ",
        f"{BENCHMARKS['ecssd'].masks}/h.png: not an image",
    ):
        assert text in told
    assert [list(open_labelled_set(name, tmp_path).names) for name in names] == [
        ["a", "b", "c"],
        ["d", "e"],
        ["f"],
        ["g"],
    ]

    again = prepare_data(trap, "ecssd", "--data_root", tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines() == [
        f"ecssd was prepared before: {tmp_path}/tfds/ecssd/1.0.0",
        "  ecssd test: 1 images",
    ]


def test_another_folder_of_files(tmp_path, trap):
    write_archives("ecssd", tmp_path / "files", ["a"])
    root = tmp_path / "root"
    done = prepare_data(trap, "ecssd", "--data_root", root, "--manual_dir", tmp_path / "files")
    assert done.returncode == 0, done.stderr
    assert list(open_labelled_set("ecssd", root).names) == ["a"]


def test_nothing_to_prepare_from_is_one_clear_message(tmp_path, trap):
    write_archives("ecssd", tmp_path, ["a"])
    done = prepare_data(trap, "duts", "ecssd", "--data_root", tmp_path, "--nodownload")
    assert done.returncode == 1
    # What could be prepared was.
    assert "ecssd test: 1 images" in done.stdout
    assert "Traceback" not in done.stderr
    for text in ("error: duts_tr: ", "DUTS-TR.zip", "DUTS-TE.zip", f"{tmp_path}/DUTS"):
        assert text in done.stderr


def test_a_damaged_archive_is_one_line(tmp_path, trap):
    write_archives("ecssd", tmp_path, ["a"])
    (tmp_path / "images.zip").write_bytes((tmp_path / "images.zip").read_bytes()[:-30])
    done = prepare_data(trap, "ecssd", "--data_root", tmp_path, "--nodownload")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/images.zip is no complete zip archive")


def test_an_unknown_name_lists_the_known(tmp_path, trap):
    done = prepare_data(trap, "voc", "ecssd", "--data_root", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: unknown data set voc: choose among dut_omron, duts, duts_te, duts_tr, ecssd\n"
    )


def test_real_ecssd(tmp_path, trap, reference_data):
    done = prepare_data(
        trap, "ecssd", "--data_root", tmp_path, "--manual_dir", reference_data, "--nodownload"
    )
    assert done.returncode == 0, done.stderr
    assert "  ecssd test: 300 images" in done.stdout
    assert "ecssd test has 300 images, but 1000 are published" in done.stderr


@pytest.mark.slow
def test_training_on_what_was_prepared(tmp_path, trap):
    write_archives("duts_tr", tmp_path, [f"{number}" for number in range(8)])
    done = prepare_data(trap, "duts_tr", "--data_root", tmp_path, "--nodownload")
    assert done.returncode == 0, done.stderr
    assert "there is no split test; run this again to add it" in done.stderr
    trained = run_train(tmp_path / "run", tmp_path / "tfds/duts", steps=2)
    assert trained.returncode == 0, trained.stderr
    assert "skipped" not in trained.stdout + trained.stderr
    assert (tmp_path / "run/metrics.jsonl").exists()
