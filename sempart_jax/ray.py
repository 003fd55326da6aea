"""Masks of pictures by the million: a step for Ray Data, on any number of machines.

    import ray
    from sempart_jax.ray import Segment

    pictures = ray.data.read_binary_files("s3://photos", include_paths=True)
    masks = pictures.map_batches(Segment, batch_size=16, concurrency=8, num_gpus=1)
    masks.write_parquet("s3://masks")

``docs/scaling.md`` shows how to continue after a failure. Needs ``pip install 'sempart_jax[ray]'``.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco

from sempart_jax.data.images import UnreadableImageError, open_image
from sempart_jax.metrics.localization import largest_box
from sempart_jax.predict.load import load_method_segmenter, load_segmenter
from sempart_jax.segmentation.objects import expected_iou

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("counts", pa.binary()),
        ("box", pa.list_(pa.int32())),
        ("area", pa.float64()),
        ("confidence", pa.float64()),
        ("error", pa.string()),
    ]
)
"""Columns of the masks, see :class:`Segment`."""


class Segment:
    """Segments batches of ``read_binary_files(..., include_paths=True)``; for ``map_batches``.

    Each picture becomes a row: its ``path``; ``height`` and ``width``; ``counts``, its mask in the
    compressed run lengths of COCO, which ``pycocotools.mask.decode({"size": [height, width],
    "counts": counts})`` turns back; ``box`` (``[x_min, y_min, x_max, y_max]`` of the largest
    component, ends exclusive, null for an empty mask), ``area`` (share of the pixels) and
    ``confidence`` (see ``segmentation.objects.expected_iou``). A picture that cannot be read has
    its ``error`` and nulls.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | None = None,
        *,
        method: str | None = None,
        threshold: float = 0.5,
        **options: Any,
    ) -> None:
        """Load what segments; Ray calls this once a worker, with ``fn_constructor_kwargs``.

        Args:
            source: see :func:`sempart_jax.load_segmenter`.
            method: a method without training instead, see
                :func:`sempart_jax.load_method_segmenter`.
            threshold: mask value above which a pixel is foreground, in [0, 1).
            **options: of the function that loads.

        Raises:
            ValueError: both a source and a method are named, the threshold is out of range, or an
                option is.
        """
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold lies in [0, 1), got {threshold}")
        if method is None:
            self._segmenter = load_segmenter(source, **options)
        elif source is None:
            self._segmenter = load_method_segmenter(method, **options)
        else:
            raise ValueError("give either source or method, not both")
        self._threshold = threshold

    def __call__(self, batch: Mapping[str, np.ndarray]) -> pa.Table:
        """Segment a batch with the columns ``bytes`` and ``path``.

        Returns:
            A row a picture, in order, of the columns :data:`SCHEMA`.

        Raises:
            ValueError: a column is missing.
        """
        if missing := {"bytes", "path"} - batch.keys():
            raise ValueError(
                f"the pictures have no column {', '.join(sorted(missing))}: read them by "
                "ray.data.read_binary_files(..., include_paths=True)"
            )
        rows = [{"path": str(path)} for path in batch["path"]]
        images, readable = [], []
        for row, content in zip(rows, batch["bytes"], strict=True):
            try:
                images.append(np.asarray(open_image(bytes(content), row["path"])))
            except UnreadableImageError as error:
                row["error"] = error.reason
            else:
                readable.append(row)
        for row, mask in zip(readable, self._segmenter(images), strict=True):
            row.update(self._describe(mask))
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _describe(self, mask: np.ndarray) -> dict[str, Any]:
        binary = mask > self._threshold
        return {
            "height": mask.shape[0],
            "width": mask.shape[1],
            "counts": coco.encode(np.asfortranarray(binary, np.uint8))["counts"],
            "box": largest_box(binary),
            "area": float(binary.mean()),
            "confidence": expected_iou(mask, binary),
        }
