"""Labelled benchmarks by name: where each lies, how large it is, and how to open it."""

import os
from pathlib import Path
from typing import NamedTuple

from absl import logging

from sempart_jax.data.folder import match_pairs
from sempart_jax.data.labelled import (
    PREPARED,
    LabelledFolder,
    LabelledSet,
    PreparedSet,
    newest_version,
    prepared_splits,
)
from sempart_jax.host.shown_names import shorten


class Benchmark(NamedTuple):
    """Where a benchmark lies under the data root, and how large its authors made it.

    Attributes:
        images: folder of images, as its authors lay it out.
        masks: folder of masks.
        published_images: number of images with a mask that its authors publish.
        prepared: name under which ``sempart_jax.data.builders`` prepares it.
        split: its split there.
    """

    images: str
    masks: str
    published_images: int
    prepared: str
    split: str


BENCHMARKS = {
    "duts_tr": Benchmark(
        "DUTS/DUTS-TR/DUTS-TR-Image", "DUTS/DUTS-TR/DUTS-TR-Mask", 10553, "duts", "train"
    ),
    "duts_te": Benchmark(
        "DUTS/DUTS-TE/DUTS-TE-Image", "DUTS/DUTS-TE/DUTS-TE-Mask", 5019, "duts", "test"
    ),
    "dut_omron": Benchmark(
        "DUT-OMRON/DUT-OMRON-image", "DUT-OMRON/pixelwiseGT-new-PNG", 5168, "dut_omron", "test"
    ),
    "ecssd": Benchmark("ECSSD/images", "ECSSD/ground_truth_mask", 1000, "ecssd", "test"),
}
"""Each benchmark by its name: DUTS (Wang et al. 2017), DUT-OMRON (Yang et al. 2013), ECSSD (Shi et
al. 2016)."""


def open_labelled_set(name: str, data_root: str | os.PathLike[str]) -> LabelledSet:
    """Open a benchmark: prepared where it is, else the folders that its authors' archives give.

    Of folders, an image that has no mask or several is left out, with one warning in the log.

    Raises:
        ValueError: no benchmark has this name, or what is prepared is damaged.
        FileNotFoundError: it is neither prepared nor there as files, or no image has a mask.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    root = Path(data_root)
    prepared = newest_version(root / PREPARED / benchmark.prepared)
    if prepared is not None and benchmark.split in prepared_splits(prepared):
        return PreparedSet(prepared, benchmark.split, benchmark.published_images)
    images, masks = root / benchmark.images, root / benchmark.masks
    try:
        pairs, left_out = match_pairs(images, masks)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"benchmark {name} is neither prepared in {root / PREPARED / benchmark.prepared} nor "
            f"unpacked in {images} and {masks} ({error}). To download and prepare it: "
            f"python scripts/prepare_data.py {name} --data_root {data_root}"
        ) from error
    examples = shorten([f"{path.name} {reason}" for path, reason in left_out.items()])
    if not pairs:
        raise FileNotFoundError(
            f"benchmark {name}: no image in {images} has one mask in {masks}: {examples}"
        )
    if left_out:
        logging.warning("%s: left out %d images: %s", name, len(left_out), examples)
    return LabelledFolder(pairs, benchmark.published_images)
