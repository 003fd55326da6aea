"""``scripts/benchmarking/input_pipeline.py`` as a user runs it."""

import importlib.util
import subprocess
import sys

import pytest

from sempart_jax.data.image_sources import open_images
from sempart_jax.data.synthetic import write_scenes
from tests.commands import REPOSITORY

SCRIPT = REPOSITORY / "scripts/benchmarking/input_pipeline.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6, size=40, seed=0)
    return root / "images"


@pytest.fixture(scope="module")
def benchmark():
    specification = importlib.util.spec_from_file_location("input_pipeline", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_command_prints_a_table(folder):
    command = [sys.executable, "-W", "error", SCRIPT, folder, "--images", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, head, *rows = done.stdout.splitlines()
    assert first.startswith("6 images, ")
    assert head.split() == ["decoded", "by", "images/s", "images/s", "of", "a", "core"]
    names = [" ".join(row.split()[:2]) for row in rows]
    assert names == ["1 thread", "2 threads", "1 worker", "2 workers"]
    for row in rows:
        assert float(row.split()[2]) > 0


def test_flags_choose_what_is_measured(folder, benchmark, monkeypatch, capsys):
    measured = []

    def measure(source, **settings):
        measured.append(settings)
        return benchmark.Rate(settings["threads"], settings["workers"], 9, 3)

    monkeypatch.setattr(benchmark, "measure", measure)
    sizes = ["--image_size", "128", "--resize_size", "130", "--batch_size", "256"]
    chosen = ["--threads", "--workers", "3", "8", "--images", "512"]
    benchmark.main([str(folder), *sizes, *chosen])
    same = {"images": 512, "image_size": 128, "resize_size": 130, "batch_size": 256}
    assert measured == [same | {"threads": 0, "workers": workers} for workers in (3, 8)]
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["3", "workers"],
        ["8", "workers"],
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resize_size", "319"], "--resize_size must be at least --image_size, 320"),
        (["--threads", "--workers"], "name a count of --threads or --workers"),
        (["--workers", "0"], "0 is not above 0"),
    ],
)
def test_flags_that_cannot_be_are_refused(folder, benchmark, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main([str(folder), *flags])
    assert message in capsys.readouterr().err


def test_rates_count_what_was_taken(folder, benchmark, monkeypatch):
    taken = []
    real = benchmark._take
    monkeypatch.setattr(
        benchmark, "_take", lambda batches, count: (taken.append(count), real(batches, count))
    )
    clock = iter((10.0, 12.0))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    processor = iter((5.0, 9.0))
    monkeypatch.setattr(benchmark, "_processor_seconds", lambda: next(processor))
    rate = benchmark.measure(
        open_images(folder),
        threads=1,
        batch_size=4,
        images=30,
        image_size=16,
        resize_size=20,
    )
    # What a thread has ready; then 30 images in whole batches.
    assert taken == [4, 8]
    assert rate == benchmark.Rate(1, 0, 32 / 2, 32 / 4)
