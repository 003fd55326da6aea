"""DUTS, DUT-OMRON and ECSSD as tensorflow-datasets builders, prepared without TensorFlow.

Of that library only what runs without TensorFlow is used: downloading, and writing ArrayRecord. The
authors' files are stored verbatim.
"""

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds  # type: ignore[import-untyped]
from jaxtyping import UInt8

from sempart_jax.data.archives import BenchmarkFiles, StoredFile, download_archive, find_files
from sempart_jax.data.benchmarks import BENCHMARKS
from sempart_jax.data.folder import mask_problem
from sempart_jax.data.images import UnreadableImageError
from sempart_jax.data.labelled import PREPARED, newest_version, prepared_splits, read_labelled
from sempart_jax.host.shown_names import shorten


class SaliencyBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images with one mask each, in the order of their names.

    Attributes:
        left_out: why an image was left out at preparation, by split and by the image's label.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "The files of the authors, verbatim."}
    HOMEPAGE: ClassVar[str]
    # No file is downloaded here, so there are no checksums for the library to look for.
    url_infos: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, files: Mapping[str, BenchmarkFiles], **options: Any):
        """Set up a builder of the files of each split, with the options of every builder."""
        self.left_out: dict[str, dict[str, str]] = {split: {} for split in files}
        self._files = files
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        image, mask = (tfds.features.Image(shape=(None, None, channels)) for channels in (3, 1))
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            homepage=self.HOMEPAGE,
            features=tfds.features.FeaturesDict(
                {"image": image, "mask": mask, "name": tfds.features.Text()}
            ),
            # Names in the order of the records: to know them, nobody need read all images.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict({split: [] for split in self._files}),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in self._files}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        files, left_out, names = self._files[split], self.left_out[split], self.info.metadata[split]
        has_foreground = False
        masks_of: dict[str, list[StoredFile]] = {}
        for mask in files.masks:
            masks_of.setdefault(mask.stem, []).append(mask)
        for image in sorted(files.images, key=lambda image: image.stem):
            masks = masks_of.get(image.stem, [])
            if len(masks) != 1:
                left_out[image.label] = mask_problem([mask.label for mask in masks])
            elif names and image.stem == names[-1]:
                left_out[image.label] = "has the name of another image"
            else:
                try:
                    example, mask_levels = _read_example(image, masks[0])
                except UnreadableImageError as error:
                    of_image = error.path == image.label
                    left_out[image.label] = error.reason if of_image else str(error)
                    continue
                except OSError as error:
                    left_out[image.label] = str(error)
                    continue
                has_foreground = has_foreground or bool((mask_levels > 127).any())
                names.append(image.stem)
                yield image.stem, example
        if not names:
            reasons = shorten([f"{label}: {reason}" for label, reason in left_out.items()])
            raise ValueError(f"{self.name} {split}: not one image can be used: {reasons}")
        if not has_foreground:
            raise ValueError(
                f"{self.name} {split}: none of {len(names)} masks has foreground, such as that of "
                f"{names[0]}: put the authors' masks there"
            )


class Duts(SaliencyBuilder):
    """Wang et al., Learning to Detect Salient Objects with Image-level Supervision, CVPR 2017."""

    HOMEPAGE = "http://saliencydetection.net/duts/"


class DutOmron(SaliencyBuilder):
    """Yang et al., Saliency Detection via Graph-based Manifold Ranking, CVPR 2013."""

    HOMEPAGE = "http://saliencydetection.net/dut-omron/"


class Ecssd(SaliencyBuilder):
    """Shi et al., Hierarchical Image Saliency Detection on Extended CSSD, TPAMI 2016."""

    HOMEPAGE = "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html"


BUILDERS: dict[str, type[SaliencyBuilder]] = {"duts": Duts, "dut_omron": DutOmron, "ecssd": Ecssd}


class Preparation(NamedTuple):
    """What there is after :func:`prepare`.

    Attributes:
        folder: where the data set is.
        images: number of images of each split.
        left_out: why an image was left out, by split and label; empty where nothing was done.
        missing: why a split is not there, by split.
        was_there: whether nothing had to be done.
    """

    folder: Path
    images: dict[str, int]
    left_out: dict[str, dict[str, str]]
    missing: dict[str, str]
    was_there: bool


def prepare(
    dataset: str,
    data_root: str | os.PathLike[str],
    *,
    manual_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Preparation:
    """Prepare all splits of a data set to ArrayRecord, in ``data_root/tfds``.

    Pairs that cannot be used are left out: an image without a mask, with several or with itself as
    its mask, files that cannot be decoded, a mask of another size than its image. A split whose
    files are nowhere is left out too, as long as there is another one; a later call adds it. What
    is there already is only replaced by something complete that has more splits. An interrupted
    preparation may be run again; two at once of one data set may not.

    Args:
        dataset: duts, dut_omron or ecssd.
        data_root: the folder that holds the data sets.
        manual_dir: where to look for files, see ``sempart_jax.data.archives.find_files``; the
            ``data_root`` by default.
        download: whether to download what is not there.

    Returns:
        What there is now.

    Raises:
        ValueError: no data set has this name, an archive is damaged, no image can be used, or no
            mask has foreground.
        FileNotFoundError: no split's files are there; says which files to put where.
    """
    if dataset not in BUILDERS:
        raise ValueError(f"unknown data set {dataset!r}: choose one of {', '.join(BUILDERS)}")
    there = newest_version(Path(data_root) / PREPARED / dataset)
    before = {} if there is None else prepared_splits(there)
    names = {one.split: name for name, one in BENCHMARKS.items() if one.prepared == dataset}
    if there is not None and set(names) <= set(before):
        return Preparation(there, before, {}, {}, was_there=True)

    root = Path(data_root) / PREPARED
    files: dict[str, BenchmarkFiles] = {}
    missing: dict[str, str] = {}
    for split, name in names.items():
        try:
            files[split] = find_files(
                name,
                Path(data_root if manual_dir is None else manual_dir),
                partial(download_archive, root / "downloads") if download else None,
            )
        except FileNotFoundError as error:
            missing[split] = str(error)
    if there is not None and not set(files) > set(before):
        return Preparation(there, before, {}, missing, was_there=True)
    if not files:
        raise FileNotFoundError("\n".join(missing.values()))

    staging = root / f".preparing-{dataset}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        builder = BUILDERS[dataset](files=files, data_dir=staging)
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
        staged = Path(builder.data_path)
        folder = root / staged.relative_to(staging)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Preparation(folder, prepared_splits(folder), builder.left_out, missing, was_there=False)


def _read_example(
    image: StoredFile, mask: StoredFile
) -> tuple[dict[str, Any], UInt8[np.ndarray, "H W"]]:
    """Read a pair as it is stored, and decode it to be sure that it can be; give the mask, too."""
    image_bytes, mask_bytes = image.read(), mask.read()
    labels = (image.label, mask.label)
    decoded = read_labelled(image.stem, image_bytes, mask_bytes, labels=labels)
    example = {"image": io.BytesIO(image_bytes), "mask": io.BytesIO(mask_bytes), "name": image.stem}
    return example, decoded.ground_truth
