"""Images in a stream: full batches, bounded memory, failures."""

import os
import threading
import time

import numpy as np
import pytest

from sempart_jax.data.folder import file_stamp
from sempart_jax.data.images import count_pixels, read_image
from sempart_jax.host.pixel_budget import PixelBudget
from sempart_jax.segmentation.finishing import UnfinishedImageError
from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.stream import Stream
from tests.segmentation.red_images import RedPredictor, write_red


class Collector:
    """Takes what a stream gives."""

    def __init__(self, delay=0.0):
        self.masks, self.done, self.failed, self.stamps = {}, [], {}, {}
        self._delay = delay
        self._lock = threading.Lock()

    def finish(self, file, stamp, photograph, mask, seconds):
        time.sleep(self._delay)
        assert 0 < seconds < 60
        np.testing.assert_array_equal(photograph.pixels, read_image(file.path))
        with self._lock:
            self.masks[file.name], self.stamps[file.name] = mask, stamp

    def report(self, file, failure):
        if failure is None:
            self.done.append(file.name)
        else:
            self.failed[file.name] = failure

    def stream(self, predictor, **options):
        return Stream(predictor, self.finish, self.report, **{"threads": 2, **options})


def write_mixed(folder, count):
    """Squares and landscapes by turns."""
    return [
        ImageFile(write_red(folder / f"{i}.png", width=32 if i % 2 else 48), str(i))
        for i in range(count)
    ]


def test_batches_are_full_but_for_the_last_of_each_size(tmp_path):
    files = write_mixed(tmp_path, 19)
    collector, predictor = Collector(), RedPredictor(batch_size=4)
    collector.stream(predictor).run(files)
    assert sorted(collector.done) == sorted(file.name for file in files)
    landscapes = [shape[0] for shape in predictor.batches if shape[2] == 48]
    squares = [shape[0] for shape in predictor.batches if shape[2] == 32]
    assert (landscapes, squares) == ([4, 4, 2], [4, 4, 1])
    assert predictor.fetched == 6
    assert predictor.most_in_flight == 2
    for file in files:
        expected = read_image(file.path)[..., 0].astype(np.float32) / 255
        np.testing.assert_array_equal(collector.masks[file.name], expected)
        assert collector.stamps[file.name] == file_stamp(file.path)


def test_memory_is_bounded_by_batches_that_are_not_full(tmp_path, monkeypatch):
    class Watched(PixelBudget):
        most = 0

        def try_acquire(self, pixels):
            taken = super().try_acquire(pixels)
            self.most = max(self.most, self._used)
            return taken

    monkeypatch.setattr("sempart_jax.segmentation.stream.PixelBudget", Watched)
    files = write_mixed(tmp_path, 24)
    files.insert(5, ImageFile(write_red(tmp_path / "large.png", 100, 100), "large"))
    collector, predictor = Collector(delay=0.003), RedPredictor(batch_size=16)
    stream = collector.stream(predictor, held_pixels=6 * 1536, threads=4)
    stream.run(files)
    assert len(collector.done) == 25
    assert (stream._held.most, stream._held._used) == (100 * 100, 0)
    assert max(shape[0] for shape in predictor.batches) <= 9
    # Never a batch of one while there was room for more.
    assert sum(shape[0] for shape in predictor.batches) == 25
    assert len(predictor.batches) < 16


def test_what_cannot_be_read_or_finished_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    files = write_mixed(tmp_path, 6)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 3000)
    files.append(ImageFile(write_red(tmp_path / "6.png", 60, 60), "6"))
    files[1].path.write_bytes(b"no image")
    files[2].path.unlink()
    files[3].path.write_bytes(files[3].path.read_bytes()[:60])
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    collector = Collector()
    finish = collector.finish

    def some(file, *rest):
        if file.name == "4":
            raise UnfinishedImageError("its output cannot be written: File name too long")
        finish(file, *rest)

    collector.finish = some
    collector.stream(RedPredictor(), held_pixels=2000).run([*files, ImageFile(fifo, "fifo")])
    assert sorted(collector.done) == ["0", "5"]
    assert set(collector.failed) == {"1", "2", "3", "4", "6", "fifo"}
    assert "not an image in one of the formats" in collector.failed["1"]
    assert collector.failed["2"] == "No such file or directory"
    assert "60x60 pixels are more than the limit of 3000" in collector.failed["6"]
    assert collector.failed["fifo"].endswith("no regular file")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("device lost")])
def test_what_was_predicted_before_an_error_may_be_kept(tmp_path, error):
    files = write_mixed(tmp_path, 40)
    collector = Collector()
    threads = threading.active_count()
    with pytest.raises(type(error)):
        collector.stream(RedPredictor(error=error, error_after=2)).run(files)
    # Nothing runs on behind.
    assert threading.active_count() == threads
    assert set(collector.done) == set(collector.masks)
    assert len(collector.done) <= 8


def test_an_error_in_finishing_ends_the_stream(tmp_path):
    files = write_mixed(tmp_path, 64)
    collector, tried = Collector(), []

    def full(file, *_):
        tried.append(file.name)
        raise OSError(28, "No space left on device")

    collector.finish = full
    with pytest.raises(OSError, match="No space left"):
        collector.stream(RedPredictor()).run(files)
    assert len(tried) < 64
    assert collector.done == []


def test_heads_of_files_tell_their_pixels(tmp_path):
    assert count_pixels(write_red(tmp_path / "a.png", 10, 20)) == 200
    (tmp_path / "b.png").write_bytes(b"no image")
    assert [count_pixels(tmp_path / name) for name in ("b.png", "absent.png", "")] == [0, 0, 0]
