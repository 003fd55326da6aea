import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from sempart_jax.data import image_sources, pipeline
from sempart_jax.data.builders import prepare
from sempart_jax.data.folder import find_images
from sempart_jax.data.image_sizes import MAXIMUM_ASPECT_RATIO, resize_short_side
from sempart_jax.data.image_sources import ImageFiles, ImageSource, open_images
from sempart_jax.data.images import NoReadableImageError, read_image, read_pillow
from sempart_jax.data.pipeline import (
    Batch,
    fingerprint,
    training_batches,
)
from sempart_jax.host import worker_processes
from sempart_jax.host.worker_processes import WorkerKilledError
from tests.commands import own_words
from tests.data.labelled_files import write_unpacked

SIZES = {"image_size": 16, "resize_size": 20}
COUNT = 7


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Images whose red channel is their number, with green and blue random in large blocks."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        image = np.full((24, 30, 3), number, np.uint8)
        image[..., 1:] = rng.integers(0, 256, (12, 15, 2)).repeat(2, axis=0).repeat(2, axis=1)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return find_images(tmp_path)


def source_of(paths: list[Path]) -> ImageFiles:
    return ImageFiles(paths, paths[0].parent)


def take(paths: list[Path], steps: int, **options) -> list[Batch]:
    return take_from(source_of(paths), steps, **options)


def take_from(source: ImageSource, steps: int, **options) -> list[Batch]:
    batches = training_batches(source, **{"batch_size": 4, "seed": 3, **SIZES, **options})
    taken = list(islice(batches, steps))
    batches.close()
    return taken


def images(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.image for batch in batches])


def numbers(batches: list[Batch]) -> list[int]:
    return images(batches)[:, 0, 0, 0].tolist()


def test_batches_are_plain_bytes(paths):
    (batch,) = take(paths, 1)
    assert type(batch.image) is np.ndarray
    assert batch.image.shape == (4, 16, 16, 3)
    assert batch.image.dtype == np.uint8
    assert batch.unreadable == ()


def test_every_epoch_takes_every_image_once_in_an_order_of_its_own(paths):
    order = np.array(numbers(take(paths, 5 * COUNT))).reshape(20, COUNT)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(COUNT), (20, 1)))
    assert len({tuple(epoch) for epoch in order.tolist()}) > 15


def test_the_seed_decides_order_and_crops(paths):
    first = images(take(paths, 5))
    np.testing.assert_array_equal(first, images(take(paths, 5)))
    other = images(take(paths, 5, seed=4))
    assert (first[:, 0, 0, 0] != other[:, 0, 0, 0]).any()


def test_an_image_is_cropped_afresh_each_epoch(tmp_path, paths):
    crops = images(take(paths[:1], 3, batch_size=8))
    assert len({crop.tobytes() for crop in crops}) > 8


@pytest.mark.parametrize("step", [1, 2, 9])
def test_resuming_at_a_step(paths, step):
    whole = take(paths, step + 3)
    resumed = take(paths, 3, start_step=step)
    np.testing.assert_array_equal(images(resumed), images(whole[step:]))


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_change_nothing(paths, monkeypatch, threads):
    expected = images(take(paths, 6))
    monkeypatch.setattr(pipeline, "MAXIMUM_THREADS", threads)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    np.testing.assert_array_equal(images(take(paths, 6)), expected)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batch_of_one(paths, count):
    whole = take(paths, 6, start_step=1)
    shares = [
        take(paths, 6, start_step=1, process_index=index, process_count=count)
        for index in range(count)
    ]
    for step, batch in enumerate(whole):
        for index, share in enumerate(shares):
            np.testing.assert_array_equal(share[step].image, batch.image[index::count])


def test_crops_are_uniform_windows_of_the_resized_image(tmp_path):
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (25, 33, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    path = tmp_path / "x.png"
    resized = resize_short_side(read_image(path), 20)
    assert resized.shape == (20, 26, 3)
    windows = np.lib.stride_tricks.sliding_window_view(resized, (16, 16), (0, 1))
    corner_of = {
        np.moveaxis(windows[top, left], 0, -1).tobytes(): (top, left)
        for top in range(5)
        for left in range(11)
    }
    crops = images(take([path], 15, batch_size=100))
    seen = Counter(corner_of[crop.tobytes()] for crop in crops)
    # 55 corners, 1500 crops: 27 each, standard deviation 5.2
    assert len(seen) == 55
    assert min(seen.values()) > 5
    assert max(seen.values()) < 55


def test_small_images_are_scaled_up(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "x.png")
    (batch,) = take([tmp_path / "x.png"], 1)
    assert (batch.image == np.array([10, 20, 30], np.uint8)).all()


def test_an_unreadable_image_is_replaced_by_the_next_readable(paths):
    # 5 and 6 are broken, and after the last file comes the first.
    expected = images(take([*paths[:5], paths[0], paths[0]], 14))
    for path in paths[5:]:
        path.write_bytes(b"no image")
    batches = take(paths, 14)
    np.testing.assert_array_equal(images(batches), expected)


def test_each_unreadable_image_is_named_once(paths):
    paths[2].write_bytes(b"no image")
    paths[4].unlink()
    batches = take(paths, 14)
    reported = dict(report for batch in batches for report in batch.unreadable)
    assert sum(len(batch.unreadable) for batch in batches) == 2
    assert "not an image" in reported[str(paths[2])]
    assert "No such file" in reported[str(paths[4])]


def test_a_known_failure_is_not_tried_again(paths, monkeypatch):
    paths[2].write_bytes(b"no image")
    tried = Counter()

    def read(path):
        tried[path] += 1
        return read_pillow(path)

    monkeypatch.setattr(image_sources, "read_pillow", read)
    monkeypatch.setattr(pipeline, "MAXIMUM_THREADS", 1)
    take(paths, 14)
    assert tried[str(paths[2])] == 1
    assert tried[str(paths[3])] > 8


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (2, 2 * MAXIMUM_ASPECT_RATIO + 1)])
def test_a_strip_is_unreadable(tmp_path, paths, shape):
    strip = tmp_path / "strip.png"
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(strip)
    ((_, reason),) = [report for batch in take([*paths, strip], 4) for report in batch.unreadable]
    assert f"{shape[1]}x{shape[0]} pixels" in reason


def test_the_longest_allowed_strip(tmp_path):
    strip = tmp_path / "strip.png"
    Image.fromarray(np.zeros((2, 2 * MAXIMUM_ASPECT_RATIO, 3), np.uint8)).save(strip)
    assert take([strip], 1)[0].unreadable == ()


@pytest.mark.parametrize("workers", [0, 1])
def test_no_readable_image_at_all(paths, workers):
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(NoReadableImageError) as caught:
        take(paths, 1, workers=workers)
    text = str(caught.value)
    assert "none of the 7 files" in text
    assert text.count(str(paths[0].parent)) == 5
    assert "not an image" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 5, "process_count": 2}, "multiple of the 2 processes"),
        ({"process_index": 2, "process_count": 2}, "process_index 2"),
        ({"process_index": -1}, "process_index -1"),
        ({"image_size": 21}, "image_size 21"),
        ({"image_size": 0}, "image_size 0"),
        ({"seed": -1}, "seed"),
        ({"start_step": -1}, "start_step"),
        ({"workers": -1}, "workers"),
        ({"threads": -1}, "threads"),
    ],
)
def test_senseless_arguments_are_refused_at_once(paths, options, message):
    with pytest.raises(ValueError, match=message):
        training_batches(source_of(paths), **{"batch_size": 4, "seed": 0, **SIZES, **options})


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        training_batches(ImageFiles([], tmp_path), batch_size=1, seed=0)


def test_too_little_shared_memory(paths, monkeypatch):
    monkeypatch.setattr(worker_processes, "_SHARED_MEMORY", paths[0].parent)
    usage = type("Usage", (), {"free": 10_000})()
    monkeypatch.setattr(worker_processes.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"0 MB free: take fewer workers.*--shm-size"):
        training_batches(source_of(paths), batch_size=4, seed=0, workers=1, **SIZES)
    usage.free = 10**9
    training_batches(source_of(paths), batch_size=4, seed=0, workers=1, **SIZES).close()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(paths, workers):
    jax.devices()  # a parent whose JAX runs already
    paths[2].write_bytes(b"no image")
    expected = take(paths, 7, start_step=2)
    batches = take(paths, 7, start_step=2, workers=workers)
    np.testing.assert_array_equal(images(batches), images(expected))
    # Both workers meet the broken file; it is named once.
    reports = [report for batch in batches for report in batch.unreadable]
    assert [path for path, _ in reports] == [str(paths[2])]
    assert all(type(batch.image) is np.ndarray for batch in batches)
    assert not multiprocessing.active_children()


def test_losing_the_iterator_ends_its_processes_and_threads(paths):
    batches = training_batches(source_of(paths), batch_size=4, seed=0, workers=1, **SIZES)
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    del batches
    assert not multiprocessing.active_children()

    batches = training_batches(source_of(paths), batch_size=4, seed=0, **SIZES)
    next(batches)
    del batches
    deadline = time.monotonic() + 60
    while any("grain" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


def test_a_killed_worker_is_told_with_what_to_do(paths):
    with contextlib.closing(
        training_batches(source_of(paths), batch_size=4, seed=0, workers=1, **SIZES)
    ) as batches:
        next(batches)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        told = r"was killed \(signal 9\), probably for memory: take fewer --config.data.workers"
        with pytest.raises(WorkerKilledError, match=told):
            list(islice(batches, 10))


PROGRAM = """
import multiprocessing, sys, time
from pathlib import Path
from sempart_jax.data.image_sources import open_images
from sempart_jax.data.pipeline import training_batches

if __name__ == "__main__":
    images = open_images(sys.argv[1])
    batches = training_batches(
        images, batch_size=4, seed=0, workers=int(sys.argv[2]), image_size=16, resize_size=20
    )
    kept = [next(batches) for _ in range(4)]
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_ends_quietly_without_closing(paths, program, workers):
    command = [sys.executable, "-W", "error", program, paths[0].parent, str(workers), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert own_words(done.stderr) == ""
    assert len(done.stdout.split()) == workers


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that ended but that nobody has waited for is still listed.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_workers_of_a_killed_program_end(paths, program):
    command = [sys.executable, program, paths[0].parent, "1", "60"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        (worker,) = map(int, process.stdout.readline().split())
        assert running(worker)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while running(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_fingerprint_follows_names_and_order_alone(tmp_path):
    def of(root: str, *names: str) -> str:
        files = ImageFiles([tmp_path / root / name for name in names], tmp_path / root)
        return fingerprint(files.names)

    reference = of("here", "a.jpg", "b/c.jpg")
    # printf 'a.jpg\0b/c.jpg' | sha256sum: that of every run so far
    assert reference == "ee2c272c21a2199e"
    assert of("moved/there", "a.jpg", "b/c.jpg") == reference
    others = [
        of("here", "b/c.jpg", "a.jpg"),
        of("here", "a.jpg"),
        of("here", "a.jpg", "b/c.jpg", "d.jpg"),
        of("here", "a.jpgb/c.jpg"),
        of("here", "a.jpg", "b/C.jpg"),
    ]
    assert len({reference, *others}) == 6


def test_real_photographs(reference_data):
    paths = find_images(reference_data / "DUTS")[:20]
    batches = training_batches(source_of(paths), batch_size=8, seed=0)
    batch = next(batches)
    batches.close()
    assert batch.image.shape == (8, 320, 320, 3)
    assert batch.unreadable == ()
    assert batch.image.std() > 20


@pytest.mark.parametrize("workers", [0, 2])
def test_a_prepared_data_set_gives_the_batches_of_its_files(tmp_path, workers):
    write_unpacked("ecssd", tmp_path, [f"{number}" for number in range(COUNT)])
    prepare("ecssd", tmp_path, download=False)
    expected = take_from(open_images(tmp_path / "ECSSD"), 6)
    batches = take_from(open_images(tmp_path / "tfds/ecssd"), 6, workers=workers)
    np.testing.assert_array_equal(images(batches), images(expected))
    assert not any(batch.unreadable for batch in batches)


def test_a_damaged_record_is_replaced_and_named(tmp_path):
    write_unpacked("ecssd", tmp_path, [f"{number}" for number in range(COUNT)])
    folder = prepare("ecssd", tmp_path, download=False).folder
    (folder / "metadata.json").write_text(
        (folder / "metadata.json").read_text().replace('"3"', '"x"')
    )
    batches = take_from(open_images(folder), 14)
    ((label, reason),) = [report for batch in batches for report in batch.unreadable]
    assert label == f"{folder}/test/x/image"
    assert "damaged record" in reason
