"""From what is predicted for an image to its files and its record."""

import dataclasses
import errno
import os
import time
from collections.abc import Sequence

import numpy as np
from absl import logging
from jaxtyping import Bool, Float, UInt8

from sempart_jax.data.images import Photograph
from sempart_jax.host.pixel_budget import PixelBudget
from sempart_jax.host.shown_names import printable
from sempart_jax.metrics.localization import largest_box, largest_component
from sempart_jax.predict.postprocessing import BILATERAL_PIXELS
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.segmentation.drawing import as_file, cutout, eight_bits, index_file, overlay
from sempart_jax.segmentation.inputs import ImageFile
from sempart_jax.segmentation.objects import choose, combine, expected_iou, split, territories
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
        most_objects: how many objects an image may have; the foreground is one whole if 1.
        least_confidence: a foreground, or object, with less is left out.
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
    most_objects: int = 1
    least_confidence: float = 0.0
    budget: PixelBudget = dataclasses.field(default_factory=lambda: PixelBudget(_WORKING_PIXELS))

    def __call__(
        self,
        file: ImageFile,
        stamp: str,
        photograph: Photograph,
        predicted: Float[np.ndarray, "h w"],
        seconds: float,
    ) -> None:
        """Write all of an image, its records last.

        ``stamp`` is that of the file from before it was read, ``predicted`` the mask at the
        predictor's size, ``seconds`` the time that it took until now.

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
                records = self._finish(file, photograph, predicted)
                more = {
                    "seconds": round(seconds + time.perf_counter() - started, 4),
                    "stamp": stamp,
                    "settings": self.settings,
                }
                self.records.add(*({**record, **more} for record in records))
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
    ) -> list[Record]:
        image, alpha, profile = photograph
        labels: UInt8[np.ndarray, "H W"] | None = None
        rims: UInt8[np.ndarray, "H W"] | None = None
        found: list[Record]
        if self.most_objects == 1:
            fitted = self.segmenter.predictor.fit(predicted, *image.shape[:2])
            mask = self.segmenter.finish(image, fitted)
            binary = mask > self.threshold
            if self.only_largest:
                component = largest_component(binary)
                mask, binary = keep_component(mask, binary, component), component
            confidence = expected_iou(mask, binary)
            if confidence < self.least_confidence:
                mask, binary = np.zeros_like(mask), np.zeros_like(binary)
            box = largest_box(binary)
            found = [_measures(box, float(binary.mean()), confidence)]
            sure = confidence >= self.least_confidence
        else:
            chosen = choose(
                *self._objects(image, predicted), self.most_objects, self.least_confidence
            )
            mask, labels, rims = chosen.mask, chosen.labels, chosen.rims
            binary = labels > 0
            measures = zip(chosen.boxes, chosen.areas, chosen.confidences, strict=True)
            found = [
                {"object": number, "objects": len(chosen.boxes), **_measures(*each)}
                for number, each in enumerate(measures, 1)
            ]
            confidence, sure = chosen.best, bool(found)
            found = found or [{"object": 0, "objects": 0, **_measures(None, 0.0, confidence)}]
        if not sure:
            logging.warning(
                "%s: no object, the mask is empty (confidence %.3f, --least_confidence=%g)",
                printable(file.path),
                confidence,
                self.least_confidence,
            )
        draw = {
            "mask": lambda: (
                index_file(labels)
                if labels is not None
                else as_file(eight_bits(mask) if self.soft else binary.view(np.uint8) * 255, None)
            ),
            "overlay": lambda: as_file(overlay(image, mask, binary, rims), profile),
            "cutout": lambda: as_file(cutout(image, mask, alpha), profile),
        }
        common = {
            "image": os.fspath(file.path),
            "name": file.name,
            **{kind: self.outputs.save(kind, file.name, draw[kind]()) for kind in self.kinds},
            "height": image.shape[0],
            "width": image.shape[1],
        }
        return [{**common, **each} for each in found]

    def _objects(
        self, image: UInt8[np.ndarray, "H W 3"], predicted: Float[np.ndarray, "h w"]
    ) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
        """Return the soft mask, the foreground and its objects."""
        predictor = self.segmenter.predictor

        def refined(mask: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "H W"]:
            return self.segmenter.finish(image, predictor.fit(mask, *image.shape[:2]))

        if not predictor.numbered:
            mask = refined(predicted)
            binary = mask > self.threshold
            return mask, binary, split(binary)
        numbers = range(1, int(predicted.max()) + 1)
        mask, labels = combine(
            (refined((predicted == number).astype(np.float32)) for number in numbers),
            image.shape[:2],
            self.threshold,
        )
        return mask, labels > 0, labels


def _measures(box: Sequence[int] | None, area: float, confidence: float) -> Record:
    return {
        "box": None if box is None else list(box),
        "area": round(area, 6),
        "confidence": round(confidence, 6),
    }


def keep_component(
    mask: Float[np.ndarray, "H W"],
    binary: Bool[np.ndarray, "H W"],
    component: Bool[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """Set a soft mask to 0 outside of one component of its foreground and its soft rim."""
    return np.where(territories(component.view(np.uint8), binary) > 0, mask, np.float32(0))
