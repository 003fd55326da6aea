"""Resized images in files that threads and processes share."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sempart_jax.data.pixel_cache import PixelCache
from tests.data.labelled_files import photo

SHAPE = (24, 36)


def corner(height: int, width: int) -> tuple[int, int]:
    assert (height, width) == SHAPE
    return 5, 11


def never(height: int, width: int) -> tuple[int, int]:
    raise AssertionError("asked for the place of a crop that is not there")


def mask_of(image: np.ndarray) -> np.ndarray:
    return image[..., 1]


@pytest.mark.parametrize("masked", [False, True])
def test_crops_of_what_was_stored(tmp_path, masked):
    cache = PixelCache(tmp_path, 10**6)
    images = {number: photo(number, *SHAPE) for number in (0, 7)}
    for number, image in images.items():
        cache.store(number, image, mask_of(image) if masked else None)
    # Another process knows the folder alone.
    for reader in (cache, pickle.loads(pickle.dumps(cache))):
        for number, image in images.items():
            window = image[5:21, 11:27]
            crop = reader.crop(number, 16, corner)
            np.testing.assert_array_equal(crop.image, window)
            if masked:
                np.testing.assert_array_equal(crop.mask, mask_of(window))
            else:
                assert crop.mask is None
        assert reader.crop(1, 16, never) is None


def test_read_only_and_sliced_pixels_can_be_stored(tmp_path):
    whole = photo(0, 2 * SHAPE[0], SHAPE[1])
    image = whole[::2]
    image.flags.writeable = False
    cache = PixelCache(tmp_path, 10**6)
    cache.store(0, image, None)
    np.testing.assert_array_equal(cache.crop(0, 16, corner).image, image[5:21, 11:27])


def test_the_bound_holds_for_what_is_reserved(tmp_path):
    cache = PixelCache(tmp_path, 1000)
    assert cache.reserve(10, 20, 3)
    assert cache.reserve(10, 10, 4)
    assert not cache.reserve(1, 1, 3)

    cache = PixelCache(tmp_path, 1000)
    assert not cache.reserve(10, 40, 3)
    # Or the largest images would be asked for again and again.
    assert not cache.reserve(1, 1, 3)

    cache = pickle.loads(pickle.dumps(PixelCache(tmp_path, 1000)))
    assert not cache.reserve(10, 40, 3)


def test_the_bound_holds_for_threads_together(tmp_path):
    cache = PixelCache(tmp_path, 100 * 12)
    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(lambda _: cache.reserve(2, 2, 3), range(400)))
    assert sum(granted) == 100


@pytest.mark.parametrize("kept", [0, 5, 24, 24 + 24 * 36 * 3 - 1])
def test_a_file_that_is_no_longer_whole_counts_for_nothing(tmp_path, kept):
    cache = PixelCache(tmp_path, 10**6)
    cache.store(0, photo(0, *SHAPE), None)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:kept])
    assert cache.crop(0, 16, never) is None


def test_a_folder_that_cannot_be_written_to_ends_the_cache(tmp_path, caplog):
    cache = PixelCache(tmp_path / "absent", 10**6)
    for number in range(2):
        cache.store(number, photo(0, *SHAPE), None)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cached no more" in record.message
    assert not cache.reserve(1, 1, 3)


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch, caplog):
    cache = PixelCache(tmp_path, 10**6)

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    cache.store(0, photo(0, *SHAPE), None)
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_closed_cache_writes_nothing(tmp_path, caplog):
    cache = PixelCache(tmp_path, 10**6)
    cache.close()
    assert not cache.reserve(1, 1, 3)
    cache.store(0, photo(0, *SHAPE), None)
    assert not list(tmp_path.iterdir())
    assert not caplog.records


def test_closing_waits_for_who_is_writing(tmp_path, monkeypatch):
    cache = PixelCache(tmp_path, 10**6)
    writing, may_go_on, closed = (threading.Event() for _ in range(3))
    replace = type(tmp_path).replace

    def slow(self, target):
        writing.set()
        assert may_go_on.wait(10)
        assert not closed.is_set()
        return replace(self, target)

    monkeypatch.setattr("pathlib.Path.replace", slow)

    def close():
        cache.close()
        closed.set()

    with ThreadPoolExecutor(2) as pool:
        stored = pool.submit(cache.store, 0, photo(0, *SHAPE), None)
        assert writing.wait(10)
        pool.submit(close)
        assert not closed.wait(0.1)
        may_go_on.set()
        stored.result()
    assert closed.is_set()
    assert len(list(tmp_path.iterdir())) == 1
