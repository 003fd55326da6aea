"""Training from kept images gives the batches of training without."""

import logging
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.pipeline import Batch, training_batches
from sempart_jax.segmentation.pseudo_masks import MaskedImages
from tests.data.labelled_files import photo

SIZES = {"image_size": 16, "resize_size": 20}
COUNT, BATCH = 7, 4


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def pairs(tmp_path) -> list[tuple[Path, Path]]:
    pairs = []
    for number in range(COUNT):
        pixels = photo(number, 24 + 3 * number, 30)
        pair = tmp_path / "images" / f"{number}.png", tmp_path / "masks" / f"{number}.png"
        for path, array in zip(pair, (pixels, pixels[..., 0]), strict=True):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
        pairs.append(pair)
    return pairs


def source_of(pairs, masked: bool = True):
    root = pairs[0][0].parent
    return MaskedImages(pairs, root) if masked else ImageFiles([image for image, _ in pairs], root)


def start(source, **options):
    return training_batches(source, **{"batch_size": BATCH, "seed": 3, **SIZES, **options})


def take(source, steps: int, **options) -> list[Batch]:
    batches = start(source, **options)
    taken = list(islice(batches, steps))
    batches.close()
    return taken


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    assert len(batches) == len(expected)
    for batch, wanted in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch.image, wanted.image)
        assert (batch.mask is None) == (wanted.mask is None)
        if wanted.mask is not None:
            np.testing.assert_array_equal(batch.mask, wanted.mask)


@pytest.mark.parametrize(("workers", "masked"), [(0, False), (0, True), (2, True)])
def test_after_an_epoch_no_file_is_needed_any_more(pairs, workers, masked, temporary, caplog):
    expected = take(source_of(pairs, masked), 40)
    caplog.set_level(logging.WARNING)
    batches = start(source_of(pairs, masked), workers=workers, cache_bytes=10**6)
    taken = list(islice(batches, 10))
    for path in (path for pair in pairs for path in pair):
        path.unlink()
    taken += islice(batches, 30)
    assert list(temporary.iterdir())
    batches.close()
    assert_same(taken, expected)
    assert not any(batch.unreadable for batch in taken)
    assert not list(temporary.iterdir())
    assert not caplog.records


@pytest.mark.parametrize("workers", [0, 2])
def test_the_bound_changes_no_batch(pairs, workers, temporary):
    expected = take(source_of(pairs), 20)
    # Room for two images and their masks: 20 x 20 or more pixels each.
    limit = 2 * 30 * 20 * 4
    batches = start(source_of(pairs), workers=workers, cache_bytes=limit)
    taken = list(islice(batches, 20))
    (folder,) = temporary.iterdir()
    sizes = [file.stat().st_size for file in folder.glob("*.pixels")]
    assert 0 < len(sizes) < COUNT
    assert sum(sizes) <= limit + 24 * len(sizes)
    batches.close()
    assert_same(taken, expected)


def test_an_unreadable_image_is_replaced_with_a_cache_as_without(pairs):
    pairs[2][0].write_bytes(b"no image")
    pairs[4][1].write_bytes(b"no image")
    expected = take(source_of(pairs), 14)
    batches = take(source_of(pairs), 14, cache_bytes=10**6)
    assert_same(batches, expected)
    names = [path for batch in batches for path, _ in batch.unreadable]
    assert sorted(names) == [str(pairs[2][0]), str(pairs[4][1])]


def test_closing_while_threads_read_ahead_leaves_nothing_behind(pairs, temporary, caplog):
    for _ in range(20):
        batches = start(source_of(pairs), threads=8, cache_bytes=10**6)
        next(batches)
        batches.close()
    assert not list(temporary.iterdir())
    assert not caplog.records


def test_batches_that_were_never_asked_for_leave_nothing_behind(pairs, temporary):
    batches = start(source_of(pairs), cache_bytes=10**6)
    del batches
    assert not list(temporary.iterdir())


def test_more_than_the_disk_has_is_refused(pairs, temporary):
    with pytest.raises(ValueError, match="GB are needed"):
        start(source_of(pairs), cache_bytes=10**18)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("field", ["cache_bytes", "threads"])
def test_negative_numbers_are_refused(pairs, field):
    with pytest.raises(ValueError, match=f"{field} must not be negative"):
        start(source_of(pairs), **{field: -1})


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(pairs, threads):
    assert_same(take(source_of(pairs), 8, threads=threads), take(source_of(pairs), 8))
