"""Images with masks that no person has drawn, to train on: those of the command segment.

    python -m sempart_jax.segment IMAGES --workdir RUN --out OUT --outputs mask

writes OUT/masks/NAME.png for each image. Masks of other origin do as well, if they have the names
of their images.
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import UInt8

from sempart_jax.data.folder import (
    PRODUCT_FOLDERS,
    PRODUCT_MARKER,
    comparable,
    image_folder,
    masks_by_name,
    pair_name,
    pair_problem,
)
from sempart_jax.data.image_sizes import check_not_turned, resize
from sempart_jax.data.image_sources import ImageFiles, training_images
from sempart_jax.data.images import check_foreground, read_grey
from sempart_jax.data.labelled import warn_of_orientation
from sempart_jax.host.shown_names import shorten
from sempart_jax.segmentation.records import read_records


class MaskedImages(ImageFiles):
    """Image files with a mask file each, see ``sempart_jax.data.image_sources.MaskedSource``."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], root: str | os.PathLike[str]):
        """Take image files, which are under ``root``, with their mask files in a fixed order."""
        super().__init__([image for image, _ in pairs], root)
        self._masks = [os.fspath(mask) for _, mask in pairs]

    def read_mask(self, index: int, height: int, width: int) -> UInt8[np.ndarray, "H W"]:
        """Read the grey levels of a mask file, bilinearly resized where its size is another.

        Returns:
            uint8 ``[height, width]``; 255 is foreground.

        Raises:
            UnreadableImageError: the mask file cannot be decoded, or fits its image only before
                that is turned upright; its ``path`` is that file.
        """
        grey = read_grey(self._masks[index])
        check_not_turned(self._masks[index], grey.shape, (height, width))
        return resize(grey, height, width)

    def mask_fingerprint(self) -> str:
        """Return 16 hexadecimal digits, to notice that mask files were written anew.

        A file that cannot be read counts as empty: whoever trains on it names it.
        """
        digest = hashlib.sha256()
        for name, path in zip(self.names, self._masks, strict=True):
            content = b""
            # A pipe would never end.
            with contextlib.suppress(OSError):
                content = Path(path).read_bytes() if Path(path).is_file() else b""
            digest.update(os.fsencode(name) + hashlib.sha256(content).digest())
        return digest.hexdigest()[:16]


def open_pseudo_masks(
    images: str | os.PathLike[str], masks: str | os.PathLike[str]
) -> MaskedImages:
    """Pair the images of a folder with the masks of another.

    Of segment's own output folder, the mask of an image is the one that was written for it: on the
    machine where it was written by the records, elsewhere by its name, which is that of the image
    in the folder that segment was given. Masks of other origin have their image's path below its
    folder, up to the extension. Images without a mask, with several, or with one that could as
    well be another image's (``a`` of ``a.jpg`` and ``a.png``) or is the image itself, are left out
    and named in a warning; masks without an image are ignored.

    Args:
        images: folder, see ``sempart_jax.data.image_sources.training_images``: of DUTS the training
            images.
        masks: folder of masks, or the output folder of segment.

    Raises:
        FileNotFoundError: a folder is missing or empty, or no image has a mask.
        ValueError: a folder is a file, both are the same, or no mask has foreground.
    """
    paths = training_images(images)
    folder, output = _masks_and_output(Path(masks))
    if image_folder(folder).resolve() == image_folder(images).resolve():
        raise ValueError(f"{folder} holds the images themselves: give the folder of their masks")
    masks_of = masks_by_name(folder)
    pairs: list[tuple[Path, Path]] = []
    left_out: dict[str, str] = {}
    for path, names in zip(paths, _mask_names(Path(images), paths, output), strict=True):
        spelt = map(comparable, names)
        candidates = next((masks_of[name] for name in spelt if name in masks_of), [])
        if problem := pair_problem(path, candidates):
            left_out[path.relative_to(images).as_posix()] = problem
        else:
            pairs.append((path, candidates[0]))
            if output is None:  # segment sees images upright
                warn_of_orientation(str(path), *pairs[-1])
    problems = shorten([f"{name} {reason}" for name, reason in left_out.items()])
    if not pairs:
        raise FileNotFoundError(
            f"none of the {len(paths)} images in {images} has a mask in {folder}: "
            f"{problems}. Write masks with python -m sempart_jax.segment {images} "
            "--out OUT and give OUT; or give a folder of masks with the names of their images"
        )
    if left_out:
        logging.warning(
            "%d of %d images in %s are left out: %s",
            len(left_out),
            len(paths),
            images,
            problems,
        )
    check_foreground(mask for _, mask in pairs)
    return MaskedImages(pairs, images)


def _masks_and_output(masks: Path) -> tuple[Path, Path | None]:
    """Return the folder of masks, and segment's output folder if they are of segment."""
    inside = PRODUCT_FOLDERS["mask"]
    if (masks / PRODUCT_MARKER).is_file():
        if not (masks / inside).is_dir():
            raise FileNotFoundError(
                f"segment has written no masks to {masks}: call it with mask among --outputs"
            )
        return masks / inside, masks
    output = masks.resolve().parent
    is_output = masks.resolve().name == inside and (output / PRODUCT_MARKER).is_file()
    return masks, output if is_output else None


def _mask_names(images: Path, paths: Sequence[Path], output: Path | None) -> list[list[str]]:
    """Return for each image what its mask may be called, the surest name first."""
    recorded: dict[Path, str] = {}
    if output is not None:
        recorded = {path: lines[-1]["name"] for path, lines in read_records(output).items()}
    names: list[list[str]] = [[] for _ in paths]
    # Of a benchmark, either folder may have been given to segment.
    for root in dict.fromkeys((images, image_folder(images))):
        wanted = [pair_name(path, root) for path in paths]
        images_of = Counter(wanted)
        for mine, path, name in zip(names, paths, wanted, strict=True):
            # As segment sees it.
            absolute = root.resolve() / path.relative_to(root)
            if absolute in recorded:
                mine.append(recorded[absolute])
            if images_of[name] == 1:
                mine.append(name)
    return names
