"""Training batches: what is in them, and that nothing but files, seed and step decides it."""

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

from sempart_jax.data import image_sources
from sempart_jax.data.builders import prepare
from sempart_jax.data.folder import find_images
from sempart_jax.data.image_sizes import MAXIMUM_ASPECT_RATIO, resize_short_side
from sempart_jax.data.image_sources import ImageFiles, ImageSource, open_images
from sempart_jax.data.images import NoReadableImageError, open_image, read_image
from sempart_jax.data.pipeline import Batch, fingerprint, training_batches
from sempart_jax.host import worker_processes
from sempart_jax.host.worker_processes import WorkerKilledError
from sempart_jax.segmentation.pseudo_masks import MaskedImages
from tests.commands import own_words
from tests.data.labelled_files import photo, write_unpacked

SIZES = {"image_size": 16, "resize_size": 20}
COUNT = 7

Pairs = list[tuple[Path, Path]]


@pytest.fixture
def pairs(tmp_path) -> Pairs:
    """Images of several sizes whose red is their number; the mask of each is its blue."""
    pairs = []
    for number in range(COUNT):
        pixels = photo(number, 24 + 3 * number, 30)
        pixels[..., 0] = number
        pair = tmp_path / "images" / f"{number}.png", tmp_path / "masks" / f"{number}.png"
        for path, array in zip(pair, (pixels, pixels[..., 2]), strict=True):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
        pairs.append(pair)
    return pairs


def masked(pairs: Pairs) -> MaskedImages:
    return MaskedImages(pairs, pairs[0][0].parent)


def unmasked(pairs: Pairs) -> ImageFiles:
    return ImageFiles([image for image, _ in pairs], pairs[0][0].parent)


def start(source: ImageSource, **options):
    return training_batches(source, **{"batch_size": 4, "seed": 3, **SIZES, **options})


def take(source: ImageSource, steps: int, **options) -> list[Batch]:
    with contextlib.closing(start(source, **options)) as batches:
        return list(islice(batches, steps))


def images(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.image for batch in batches])


def masks(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.mask for batch in batches])


def reports(batches: list[Batch]) -> list[tuple[str, str]]:
    return [report for batch in batches for report in batch.unreadable]


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    np.testing.assert_array_equal(images(batches), images(expected))
    np.testing.assert_array_equal(masks(batches), masks(expected))


def test_batches_are_plain_bytes_and_masks_are_cut_as_their_images_are(pairs):
    batches = take(masked(pairs), 8)
    (batch, *_) = batches
    assert type(batch.image) is type(batch.mask) is np.ndarray
    assert (batch.image.shape, batch.mask.shape) == ((4, 16, 16, 3), (4, 16, 16))
    assert batch.image.dtype == batch.mask.dtype == np.uint8
    assert batch.unreadable == ()
    np.testing.assert_array_equal(masks(batches), images(batches)[..., 2])
    without = take(unmasked(pairs), 8)
    assert all(batch.mask is None for batch in without)
    np.testing.assert_array_equal(images(without), images(batches))


def test_the_images_are_those_of_every_run_so_far(pairs):
    (batch,) = take(unmasked(pairs), 1, start_step=3)
    assert batch.image[:, 0, 0].tolist() == [
        [0, 131, 94],
        [5, 92, 152],
        [4, 88, 128],
        [0, 190, 112],
    ]


def test_every_epoch_takes_every_image_once_in_an_order_of_its_own(pairs):
    numbers = images(take(unmasked(pairs), 5 * COUNT))[:, 0, 0, 0]
    order = numbers.reshape(20, COUNT)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(COUNT), (20, 1)))
    assert len({tuple(epoch) for epoch in order.tolist()}) > 15


def test_the_seed_decides_order_and_crops(pairs):
    first = images(take(unmasked(pairs), 5))
    other = images(take(unmasked(pairs), 5, seed=4))
    assert (first[:, 0, 0, 0] != other[:, 0, 0, 0]).any()
    one, two = (images(take(unmasked(pairs[:1]), 1, seed=seed)) for seed in (3, 4))
    assert (one != two).any()


@pytest.mark.parametrize(
    "options", [{"threads": 1}, {"threads": 5}, {"workers": 1}, {"workers": 2}, {"start_step": 3}]
)
def test_neither_threads_nor_workers_nor_resuming_change_a_batch(pairs, options):
    jax.devices()  # a parent whose JAX runs already
    pairs[2][0].write_bytes(b"no image")
    pairs[5][1].write_bytes(b"no image")
    expected = take(masked(pairs), 8)
    batches = take(masked(pairs), 8 - options.get("start_step", 0), **options)
    assert_same(batches, expected[options.get("start_step", 0) :])
    # All workers meet the broken files; each is named once.
    assert sorted(path for path, _ in reports(batches)) == [str(pairs[2][0]), str(pairs[5][1])]
    # No shared memory of a worker that has ended.
    assert all(batch.image.base is None and batch.mask.base is None for batch in batches)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batch_of_one(pairs, count):
    whole = take(masked(pairs), 6, start_step=1)
    for index in range(count):
        share = take(masked(pairs), 6, start_step=1, process_index=index, process_count=count)
        for mine, batch in zip(share, whole, strict=True):
            np.testing.assert_array_equal(mine.image, batch.image[index::count])
            np.testing.assert_array_equal(mine.mask, batch.mask[index::count])


def test_crops_are_uniform_windows_of_the_resized_image(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(photo(1, 25, 33)).save(path)
    resized = resize_short_side(read_image(path), 20)
    assert resized.shape == (20, 26, 3)
    windows = np.lib.stride_tricks.sliding_window_view(resized, (16, 16), (0, 1))
    corner_of = {
        np.moveaxis(windows[top, left], 0, -1).tobytes(): (top, left)
        for top in range(5)
        for left in range(11)
    }
    crops = images(take(ImageFiles([path], tmp_path), 15, batch_size=100))
    seen = Counter(corner_of[crop.tobytes()] for crop in crops)
    # 55 corners, 1500 crops: 27 each, standard deviation 5.2
    assert len(seen) == 55
    assert min(seen.values()) > 5
    assert max(seen.values()) < 55


def test_what_cannot_be_read_is_replaced_by_the_next_and_named_once(pairs):
    # 5 and 6 are broken, and after the last file comes the first.
    expected = take(masked([*pairs[:5], pairs[0], pairs[0]]), 14)
    pairs[5][0].write_bytes(b"no image")
    pairs[6][1].unlink()
    batches = take(masked(pairs), 14)
    assert_same(batches, expected)
    told = reports(batches)
    assert len(told) == 2
    assert "not an image" in dict(told)[str(pairs[5][0])]
    assert "No such file" in dict(told)[str(pairs[6][1])]


def test_a_known_failure_is_not_tried_again(pairs, monkeypatch):
    pairs[2][0].write_bytes(b"no image")
    tried = Counter()

    def read(path):
        tried[path] += 1
        return open_image(path)

    monkeypatch.setattr(image_sources, "open_image", read)
    take(unmasked(pairs), 14, threads=1)
    assert tried[str(pairs[2][0])] == 1
    assert tried[str(pairs[3][0])] > 8


@pytest.mark.parametrize(
    ("shape", "refused"),
    [
        ((1, 20000), True),
        ((1, 1), False),
        ((2 * MAXIMUM_ASPECT_RATIO + 1, 2), True),
        ((2, 2 * MAXIMUM_ASPECT_RATIO), False),
    ],
)
def test_a_strip_is_unreadable(pairs, shape, refused):
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(pairs[2][0])
    told = reports(take(unmasked(pairs), 4))
    assert [path for path, _ in told] == [str(pairs[2][0])] * refused
    assert all(f"{shape[1]}x{shape[0]} pixels" in reason for _, reason in told)


@pytest.mark.parametrize(("workers", "role"), [(0, 0), (0, 1), (1, 0)])
def test_no_readable_image_at_all(pairs, workers, role):
    for pair in pairs:
        pair[role].write_bytes(b"no image")
    with pytest.raises(NoReadableImageError) as caught:
        take(masked(pairs), 1, workers=workers)
    text = str(caught.value)
    assert "none of the 7 files" in text
    assert text.count(f"{pairs[0][role].parent}/") == 5
    assert "not an image" in text


def test_senseless_arguments_are_refused_at_once(pairs):
    with pytest.raises(ValueError, match="multiple of the 2 processes"):
        start(unmasked(pairs), batch_size=5, process_count=2)
    with pytest.raises(ValueError, match="empty"):
        start(ImageFiles([], pairs[0][0].parent))


def test_too_little_shared_memory(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes, "_SHARED_MEMORY", tmp_path)
    # 5 batches of 4 x 16 x 16 pixels, three colours and a mask
    usage = type("Usage", (), {"free": 5 * 4 * 16 * 16 * 4})()
    monkeypatch.setattr(worker_processes.shutil, "disk_usage", lambda _: usage)
    start(masked(pairs), workers=1).close()
    usage.free -= 1
    with pytest.raises(ValueError, match=r"0 MB free: take fewer workers.*--shm-size"):
        start(masked(pairs), workers=1)
    (batch,) = take(unmasked(pairs), 1, workers=1)
    assert batch.mask is None


def test_losing_the_iterator_ends_its_processes_and_threads(pairs):
    batches = start(unmasked(pairs), workers=1)
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    del batches
    assert not multiprocessing.active_children()

    batches = start(unmasked(pairs))
    next(batches)
    del batches
    deadline = time.monotonic() + 60
    while any("grain" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


def test_a_killed_worker_is_told_with_what_to_do(pairs):
    with contextlib.closing(start(unmasked(pairs), workers=1)) as batches:
        next(batches)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        told = r"was killed \(signal 9\), probably for memory: take fewer --config.data.workers"
        with pytest.raises(WorkerKilledError, match=told):
            list(islice(batches, 10))


PROGRAM = """
import multiprocessing, sys, time
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
def program(tmp_path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_ends_quietly_without_closing(pairs, program, workers):
    command = [sys.executable, "-W", "error", program, pairs[0][0].parent, str(workers), "0"]
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


def test_workers_of_a_killed_program_end(pairs, program):
    command = [sys.executable, program, pairs[0][0].parent, "1", "60"]
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


def test_fingerprint_follows_names_and_order_alone():
    reference = fingerprint(["a.jpg", "b/c.jpg"])
    # printf 'a.jpg\0b/c.jpg' | sha256sum: that of every run so far
    assert reference == "ee2c272c21a2199e"
    others = [
        ["b/c.jpg", "a.jpg"],
        ["a.jpg"],
        ["a.jpg", "b/c.jpg", "d.jpg"],
        ["a.jpgb/c.jpg"],
        ["a.jpg", "b/C.jpg"],
    ]
    assert len({reference, *map(fingerprint, others)}) == 6


def test_real_photographs(reference_data):
    paths = find_images(reference_data / "DUTS")[:20]
    (batch,) = take(ImageFiles(paths, paths[0].parent), 1, image_size=320, resize_size=355)
    assert batch.image.shape == (4, 320, 320, 3)
    assert batch.unreadable == ()
    assert batch.image.std() > 20


@pytest.mark.parametrize("workers", [0, 2])
def test_a_prepared_data_set_gives_the_batches_of_its_files(tmp_path, workers):
    write_unpacked("ecssd", tmp_path, [f"{number}" for number in range(COUNT)])
    folder = prepare("ecssd", tmp_path, download=False).folder
    expected = take(open_images(tmp_path / "ECSSD"), 6)
    batches = take(open_images(tmp_path / "tfds/ecssd"), 6, workers=workers)
    np.testing.assert_array_equal(images(batches), images(expected))
    assert not reports(batches)

    # A damaged record is replaced and named.
    (folder / "metadata.json").write_text(
        (folder / "metadata.json").read_text().replace('"3"', '"x"')
    )
    ((label, reason),) = reports(take(open_images(folder), 14, workers=workers))
    assert label == f"{folder}/test/x/image"
    assert "damaged record" in reason
