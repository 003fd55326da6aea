"""From what is predicted for an image to its files and its record."""

import dataclasses
import errno
import os
import time
from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float

from sempart_jax.data.images import Photograph
from sempart_jax.host.pixel_budget import PixelBudget
from sempart_jax.host.shown_names import printable
from sempart_jax.kernels.host_guided_filter import guided_radius
from sempart_jax.metrics.localization import largest_box
from sempart_jax.predict.postprocessing import BILATERAL_PIXELS
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.segmentation.drawing import as_file, cutout, eight_bits, overlay
from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.outputs import OutputFolder
from sempart_jax.segmentation.records import Record, RecordFile

_WORKING_PIXELS = 48_000_000
# A path that cannot be is the trouble of one image, a full disk that of all.
_OF_ONE_IMAGE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


class UnwritableOutputError(OSError):
    """The output folder cannot be written: no image can be finished any more."""


class UnfinishedImageError(Exception):
    """One image cannot be finished, for the reason given; the others can."""


@dataclasses.dataclass(frozen=True)
class Finisher:
    """Refines, measures, draws and writes; called from several threads.

    Attributes:
        segmenter: fits predicted masks to their images, chooses the foreground and sharpens it.
        outputs: where files go.
        records: where the record goes.
        kinds: which files are written, keys of ``data.folder.PRODUCT_FOLDERS``.
        soft: whether the mask is written soft, or cut to 0 and 255.
        threshold: foreground is above it.
        only_largest: whether only the largest component is kept.
        settings: digest of the settings.
        budget: pixels that are worked on at a time.
    """

    segmenter: Segmenter
    outputs: OutputFolder
    records: RecordFile
    kinds: Sequence[str]
    soft: bool
    threshold: float
    only_largest: bool
    settings: str
    budget: PixelBudget = dataclasses.field(default_factory=lambda: PixelBudget(_WORKING_PIXELS))

    def __call__(
        self,
        file: ImageFile,
        stamp: str,
        photograph: Photograph,
        predicted: Float[np.ndarray, "h w"],
        seconds: float,
    ) -> None:
        """Write all of an image, its record last.

        Args:
            file: the image's.
            stamp: of the file, from before it was read.
            photograph: the image, its transparency and its colour profile.
            predicted: mask as the predictor gives it, at the size that it has there.
            seconds: time that it took until now.

        Raises:
            UnwritableOutputError: if a file cannot be written.
            UnfinishedImageError: if something is wrong with this image alone.
        """
        height, width = photograph.pixels.shape[:2]
        # The bilateral solver's memory, if it is asked for, stands beside that of the image.
        solves = self.segmenter.refine.startswith("bilateral")
        solver = 4 * min(height * width, BILATERAL_PIXELS) if solves else 0
        try:
            with self.budget.taken(height * width + solver):
                started = time.perf_counter()
                record = self._finish(file, photograph, predicted)
                record["seconds"] = round(seconds + time.perf_counter() - started, 4)
                self.records.add({**record, "stamp": stamp, "settings": self.settings})
        except MemoryError as error:
            raise UnfinishedImageError(f"not enough memory for {width}x{height} pixels") from error
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in _OF_ONE_IMAGE:
                raise UnfinishedImageError(f"its output cannot be written: {reason}") from error
            raise UnwritableOutputError(
                f"cannot write the outputs of {printable(file.path)}: {reason}; what is finished "
                "is kept, and the same command continues"
            ) from error

    def _finish(
        self,
        file: ImageFile,
        photograph: Photograph,
        predicted: Float[np.ndarray, "h w"],
    ) -> Record:
        image, alpha, profile = photograph
        fitted = self.segmenter.predictor.fit(predicted, *image.shape[:2])
        mask = self.segmenter.finish(image, fitted)
        binary = mask > self.threshold
        if self.only_largest:
            component = largest_component(binary)
            mask, binary = keep_component(mask, binary, component), component
        draw = {
            "mask": lambda: as_file(
                eight_bits(mask) if self.soft else binary.view(np.uint8) * 255, None
            ),
            "overlay": lambda: as_file(overlay(image, mask, binary), profile),
            "cutout": lambda: as_file(cutout(image, mask, alpha), profile),
        }
        box = largest_box(binary)
        return {
            "image": os.fspath(file.path),
            "name": file.name,
            **{kind: self.outputs.save(kind, file.name, draw[kind]()) for kind in self.kinds},
            "height": image.shape[0],
            "width": image.shape[1],
            "box": None if box is None else list(box),
            "area": round(float(binary.mean()), 6),
            "confidence": round(expected_iou(mask, binary), 6),
        }


def largest_component(binary: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Take the component (four neighbours) of ``metrics.localization.largest_box``.

    Returns:
        ``[H, W]``; of equal boxes the first, empty if the mask is.
    """
    components, _ = scipy.ndimage.label(binary)
    areas = [
        (rows.stop - rows.start) * (columns.stop - columns.start)
        for rows, columns in scipy.ndimage.find_objects(components)
    ]
    return components == 1 + int(np.argmax(areas)) if areas else np.zeros_like(binary)


def keep_component(
    mask: Float[np.ndarray, "H W"],
    binary: Bool[np.ndarray, "H W"],
    component: Bool[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """Set a soft mask to 0 outside of one component of its foreground and its soft rim.

    The rim is what is not foreground itself within the radius of the guided filter, which is as far
    as that smears an edge.
    """
    width = 2 * guided_radius(*mask.shape) + 1
    near = scipy.ndimage.maximum_filter(component.view(np.uint8), width).view(bool)
    near &= ~binary
    near |= component
    return np.where(near, mask, np.float32(0))


def expected_iou(mask: Float[np.ndarray, "H W"], binary: Bool[np.ndarray, "H W"]) -> float:
    """Say how decided a mask is: the IoU that it promises itself.

    If the soft values p were probabilities that a pixel is foreground, the cut mask b would have
    this IoU with the truth, as a ratio of expected areas: 1 where p is 0 or 1 everywhere, about
    one half where foreground is barely above, and background barely below 0.5. No ground truth is
    involved, and the values are not calibrated.

    Returns:
        In [0, 1]; 0 for an empty mask.
    """
    # E|b ∩ y| / E|b ∪ y| = sum_b p / (|b| + sum_not-b p)
    inside = float(np.sum(mask, where=binary, dtype=np.float64))
    union = np.count_nonzero(binary) + float(np.sum(mask, dtype=np.float64)) - inside
    return inside / union if inside else 0.0
