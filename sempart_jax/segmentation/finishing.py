"""From what is predicted for an image to its files and its record."""

import dataclasses
import errno
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from sempart_jax.host.pixel_budget import PixelBudget
from sempart_jax.host.shown_names import printable
from sempart_jax.metrics.localization import largest_box
from sempart_jax.predict.postprocessing import BILATERAL_PIXELS
from sempart_jax.predict.predictor import Fit
from sempart_jax.segmentation.drawing import cutout, eight_bits, overlay
from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.measures import expected_iou, keep_component, largest_component
from sempart_jax.segmentation.outputs import OutputFolder
from sempart_jax.segmentation.records import Record, RecordFile

_WORKING_PIXELS = 48_000_000
# A path that cannot be is the trouble of one image, a full disk that of all.
_OF_ONE_IMAGE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


class UnwritableOutputError(OSError):
    """The output folder cannot be written: no image can be finished any more."""


class UnfinishedImageError(Exception):
    """One image cannot be finished, for the reason given; the others can."""


Refine = Callable[[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]], Float[np.ndarray, "H W"]]
"""``Segmenter.finish``: chooses the foreground of an image's mask and refines it."""


@dataclasses.dataclass(frozen=True)
class Finisher:
    """Refines, measures, draws and writes; called from several threads.

    Attributes:
        fit: what brings predicted masks to the size of their images.
        refine: what chooses the foreground and sharpens it.
        outputs: where files go.
        records: where the record goes.
        kinds: which files are written, keys of ``data.folder.PRODUCT_FOLDERS``.
        soft: whether the mask is written soft, or cut to 0 and 255.
        threshold: foreground is above it.
        only_largest: whether only the largest component is kept.
        settings: digest of the settings.
        solves: whether ``refine`` is the bilateral solver, which takes more memory.
        budget: pixels that are worked on at a time.
    """

    fit: Fit
    refine: Refine
    outputs: OutputFolder
    records: RecordFile
    kinds: Sequence[str]
    soft: bool
    threshold: float
    only_largest: bool
    settings: str
    solves: bool = False
    budget: PixelBudget = dataclasses.field(default_factory=lambda: PixelBudget(_WORKING_PIXELS))

    def __call__(
        self,
        file: ImageFile,
        stamp: str,
        image: UInt8[np.ndarray, "H W 3"],
        predicted: Float[np.ndarray, "h w"],
        seconds: float,
    ) -> None:
        """Write all of an image, its record last.

        Args:
            file: the image's.
            stamp: of the file, from before it was read.
            image: RGB.
            predicted: mask as the predictor gives it, at the size that it has there.
            seconds: time that it took until now.

        Raises:
            UnwritableOutputError: if a file cannot be written.
            UnfinishedImageError: if something is wrong with this image alone.
        """
        pixels = image.shape[0] * image.shape[1]
        # The bilateral solver's memory, if it is asked for, stands beside that of the image.
        solver = 4 * min(pixels, BILATERAL_PIXELS) if self.solves else 0
        try:
            with self.budget.taken(pixels + solver):
                started = time.perf_counter()
                record = self._finish(file, image, predicted)
                record["seconds"] = round(seconds + time.perf_counter() - started, 4)
                self.records.add({**record, "stamp": stamp, "settings": self.settings})
        except MemoryError as error:
            raise UnfinishedImageError(
                f"not enough memory for {image.shape[1]}x{image.shape[0]} pixels"
            ) from error
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
        image: UInt8[np.ndarray, "H W 3"],
        predicted: Float[np.ndarray, "h w"],
    ) -> Record:
        mask = self.refine(image, self.fit(predicted, *image.shape[:2]))
        binary = mask > self.threshold
        if self.only_largest:
            component = largest_component(binary)
            mask, binary = keep_component(mask, binary, component), component
        box = largest_box(binary)
        written = {
            kind: self.outputs.save(kind, file.name, self._picture(kind, image, mask, binary))
            for kind in self.kinds
        }
        return {
            "image": os.fspath(file.path),
            "name": file.name,
            **written,
            "height": image.shape[0],
            "width": image.shape[1],
            "box": None if box is None else list(box),
            "area": round(float(binary.mean()), 6),
            "confidence": round(expected_iou(mask, binary), 6),
        }

    def _picture(
        self,
        kind: str,
        image: UInt8[np.ndarray, "H W 3"],
        mask: Float[np.ndarray, "H W"],
        binary: Bool[np.ndarray, "H W"],
    ) -> Image.Image:
        if kind == "overlay":
            return Image.fromarray(overlay(image, mask, binary))
        if kind == "cutout":
            return Image.fromarray(cutout(image, mask))
        return Image.fromarray(eight_bits(mask) if self.soft else binary.view(np.uint8) * 255)
