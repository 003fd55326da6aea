"""Training batches from image files alone: this project's pipeline, and PyTorch's loader."""

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from sempart_jax.data.folder import find_images
from sempart_jax.data.image_sources import open_images
from sempart_jax.data.pipeline import training_batches

from .child import Work
from .inputs import BATCH, BATCHES

RESIZE, CROP = 355, 320


def pipeline(*, images: str, workers: int, cores: int) -> Work:
    """Decode, resize, crop at random, and put into batches."""
    _use_cores(cores)
    batches = training_batches(
        open_images(images),
        batch_size=BATCH,
        image_size=CROP,
        resize_size=RESIZE,
        seed=0,
        workers=workers,
    )
    return _take(batches, workers)


def loader(*, images: str, workers: int, cores: int) -> Work:
    """The same by ``torch.utils.data``, with Pillow as decoder on both sides."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    _use_cores(cores)
    paths = find_images(images)

    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(paths[index]) as file:
                image = file.convert("RGB")
            scale = RESIZE / min(image.size)
            width, height = (max(RESIZE, int(scale * side)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (int(torch.randint(side - CROP + 1, ())) for side in (width, height))
            return torch.from_numpy(np.array(image.crop((left, top, left + CROP, top + CROP))))

    def forever() -> Iterator[Any]:
        loader = DataLoader(
            Files(),
            BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        while True:
            yield from loader

    return _take(forever(), workers)


def _use_cores(count: int) -> None:
    """Keep this process, and those that it starts, on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def _take(batches: Iterator[Any], workers: int) -> Work:
    def take(count: int) -> None:
        for _ in range(count):
            next(batches)

    return Work(
        lambda: take(BATCHES),
        # What was made ahead while the other side ran is not this sample's work.
        settle=lambda: take(5 * max(workers, 1)),
        calm=lambda: time.sleep(1),
    )
