"""Masks take the way of their images through the training pipeline."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sempart_jax.data.image_sizes import resize_short_side
from sempart_jax.data.image_sources import ImageFiles
from sempart_jax.data.images import NoReadableImageError, read_grey, read_image
from sempart_jax.data.pipeline import Batch, training_batches
from sempart_jax.host import worker_processes
from sempart_jax.segmentation.pseudo_masks import MaskedImages

SIZES = {"image_size": 16, "resize_size": 20}
COUNT = 7


@pytest.fixture
def pairs(tmp_path) -> list[tuple[Path, Path]]:
    """Random images of several sizes; the mask is the red channel."""
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (24 + 3 * number, 30, 3), dtype=np.uint8)
        pair = tmp_path / "images" / f"{number}.png", tmp_path / "masks" / f"{number}.png"
        for path, array in zip(pair, (pixels, pixels[..., 0]), strict=True):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(array).save(path)
        pairs.append(pair)
    return pairs


def source_of(pairs: list[tuple[Path, Path]]) -> MaskedImages:
    return MaskedImages(pairs, pairs[0][0].parent)


def take(source, steps: int, **options) -> list[Batch]:
    batches = training_batches(source, **{"batch_size": 4, "seed": 3, **SIZES, **options})
    taken = list(islice(batches, steps))
    batches.close()
    return taken


def masks(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.mask for batch in batches])


def images(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.image for batch in batches])


def test_a_mask_is_cut_as_its_image_is(pairs):
    batches = take(source_of(pairs), 8)
    (batch, *_) = batches
    assert type(batch.mask) is np.ndarray
    assert batch.mask.shape == (4, 16, 16)
    assert batch.mask.dtype == np.uint8
    np.testing.assert_array_equal(masks(batches), images(batches)[..., 0])


def test_a_mask_is_a_window_of_the_resized_mask(pairs):
    # Of another size than the image, and no channel of it.
    image, mask = pairs[0]
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (24, 36, 3), dtype=np.uint8)).save(image)
    Image.fromarray(rng.integers(0, 256, (12, 18), dtype=np.uint8)).save(mask)
    resized = resize_short_side(read_image(image), 20)
    grey = Image.fromarray(read_grey(mask)).resize((36, 24), Image.Resampling.BILINEAR)
    small = resize_short_side(np.asarray(grey), 20)
    assert small.shape == resized.shape[:2] == (20, 30)
    batches = take(source_of(pairs[:1]), 20)
    corners = Counter()
    for crop, cut in zip(images(batches), masks(batches), strict=True):
        places = [
            (top, left)
            for top in range(5)
            for left in range(15)
            if np.array_equal(resized[top : top + 16, left : left + 16], crop)
        ]
        ((top, left),) = places
        np.testing.assert_array_equal(small[top : top + 16, left : left + 16], cut)
        corners[top, left] += 1
    assert len(corners) > 30


def test_masks_change_no_image(pairs):
    files = ImageFiles([image for image, _ in pairs], pairs[0][0].parent)
    unmasked = take(files, 8)
    assert all(batch.mask is None for batch in unmasked)
    np.testing.assert_array_equal(images(take(source_of(pairs), 8)), images(unmasked))


def test_the_images_are_those_of_every_run_so_far(pairs):
    (batch,) = take(ImageFiles([image for image, _ in pairs], pairs[0][0].parent), 1, start_step=3)
    assert batch.image[:, 0, 0].tolist() == [
        [123, 131, 94],
        [149, 112, 101],
        [135, 166, 126],
        [162, 190, 112],
    ]


def test_resuming(pairs):
    whole = masks(take(source_of(pairs), 6))
    np.testing.assert_array_equal(masks(take(source_of(pairs), 3, start_step=3)), whole[12:])


def test_processes_share_the_masks_of_one(pairs):
    whole = take(source_of(pairs), 4)
    for index in range(2):
        share = take(source_of(pairs), 4, process_index=index, process_count=2)
        for mine, batch in zip(share, whole, strict=True):
            np.testing.assert_array_equal(mine.mask, batch.mask[index::2])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(pairs, workers):
    pairs[2][1].write_bytes(b"no image")
    expected = take(source_of(pairs), 7)
    batches = take(source_of(pairs), 7, workers=workers)
    np.testing.assert_array_equal(masks(batches), masks(expected))
    np.testing.assert_array_equal(images(batches), images(expected))
    assert [path for batch in batches for path, _ in batch.unreadable] == [str(pairs[2][1])]
    # No shared memory of a worker that has ended.
    assert all(batch.mask.base is None for batch in batches)


def test_workers_without_masks(pairs):
    (batch,) = take(ImageFiles([image for image, _ in pairs], pairs[0][0].parent), 1, workers=1)
    assert batch.mask is None


@pytest.mark.parametrize("broken", [0, 1])
def test_an_image_without_a_readable_mask_is_replaced_and_named(pairs, broken):
    # After the last file comes the first.
    expected = take(source_of([*pairs[:6], pairs[0]]), 14)
    pairs[6][broken].write_bytes(b"no image")
    batches = take(source_of(pairs), 14)
    np.testing.assert_array_equal(images(batches), images(expected))
    np.testing.assert_array_equal(masks(batches), masks(expected))
    ((path, reason),) = [report for batch in batches for report in batch.unreadable]
    assert path == str(pairs[6][broken])
    assert "not an image" in reason


def test_no_readable_mask_at_all(pairs):
    for _, mask in pairs:
        mask.unlink()
    with pytest.raises(NoReadableImageError) as caught:
        take(source_of(pairs), 1)
    assert f"{pairs[0][1].parent}/" in str(caught.value)


def test_masks_take_shared_memory_too(pairs, monkeypatch):
    monkeypatch.setattr(worker_processes, "_SHARED_MEMORY", pairs[0][0].parent)
    # 5 batches of 4 x 16 x 16 pixels
    usage = type("Usage", (), {"free": 5 * 4 * 16 * 16 * 4})()
    monkeypatch.setattr(worker_processes.shutil, "disk_usage", lambda _: usage)
    options = {"batch_size": 4, "seed": 0, "workers": 1, **SIZES}
    training_batches(source_of(pairs), **options).close()
    usage.free -= 1
    with pytest.raises(ValueError, match="take fewer workers"):
        training_batches(source_of(pairs), **options)
