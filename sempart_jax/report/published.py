"""Published scores to hold an evaluation against.

Numbers of *Two Tricks to Improve Unsupervised Segmentation Learning* (arXiv 2404.03392), Tables 1
to 5, with what a reader must know before comparing: who evaluated, and by which F measure.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

SOURCE = "arXiv 2404.03392"
SALIENCY_DATASETS = ("dut_omron", "duts_te", "ecssd")
LOCALIZATION_DATASETS = ("voc07", "voc12", "coco20k")

FFamily = Literal["mean_curve", "per_image"]
"""``mean_curve``: beta^2 = 0.3, maximum over thresholds of the curve averaged over the images.
``per_image``: beta^2 = 0.09, each image's own maximum, averaged. The second is the higher one by
several hundredths, so numbers of the two say nothing about each other."""

Evaluator = Literal["paper", "authors"]
"""``paper``: scored by arXiv 2404.03392 itself, on centre crops of 320 pixels with the foreground
chosen by batch. ``authors``: carried over from the method's own paper, whose protocol may differ
(most score whole images at their own size, with the foreground chosen by image)."""


_TRIPLE = ("accuracy", "iou", "max_f_beta")

SEMPART = "Sempart"
REIMPLEMENTED = "Sempart (re-implemented)"
"""The baseline as arXiv 2404.03392 trained it, its code not being released then."""
TWO_TRICKS = "two tricks"


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One method's line in a published table.

    Attributes:
        table: number of the table in arXiv 2404.03392; None if the line is from elsewhere.
        method: name of the method.
        evaluator: see :data:`Evaluator`.
        postprocessing: our key of what was done to its masks: ``none``, ``guided``, ``bilateral``
            (sigmas 24, 4, 4), ``bilateral_16_16_8``, or ``bilateral_unstated``.
        scores: data set to metric (``accuracy``, ``iou``, ``max_f_beta`` in [0, 1] or ``corloc``
            in percent) to value.
        f_family: see :data:`FFamily`; None where no F measure is given.
        backbone: our key of the frozen backbone, where the table names one.
        crop: whether it was trained with the crops of trick 2; None for methods without them.
        source: where the numbers stand, in words.
    """

    table: int | None
    method: str
    evaluator: Evaluator
    postprocessing: str
    scores: Mapping[str, Mapping[str, float]]
    f_family: FFamily | None
    backbone: str | None
    crop: bool | None
    source: str


def find_rows(*, dataset: str | None = None, **fields: Any) -> tuple[PublishedRow, ...]:
    """Look up, in the order of the paper, the rows of these fields that score a data set."""
    return tuple(
        row
        for row in ROWS
        if all(getattr(row, name) == value for name, value in fields.items())
        and (dataset is None or dataset in row.scores)
    )


def _row(
    table: int | None,
    method: str,
    evaluator: Evaluator,
    postprocessing: str,
    *values: float,
    datasets: Sequence[str] = SALIENCY_DATASETS,
    metrics: Sequence[str] = _TRIPLE,
    f_family: FFamily | None = "mean_curve",
    backbone: str | None = None,
    crop: bool | None = None,
    source: str | None = None,
) -> PublishedRow:
    of_each = zip(*[iter(values)] * len(metrics), strict=True)
    scores = {
        dataset: dict(zip(metrics, some, strict=True))
        for dataset, some in zip(datasets, of_each, strict=True)
    }
    source = source or f"{SOURCE}, Table {table}"
    return PublishedRow(
        table, method, evaluator, postprocessing, scores, f_family, backbone, crop, source
    )


_of_boxes = functools.partial(
    _row, datasets=LOCALIZATION_DATASETS, metrics=("corloc",), f_family=None
)
_of_iou = functools.partial(_row, metrics=("iou",), f_family=None)


def _ablation(
    row: Callable[..., PublishedRow], table: int, backbone: str, *four: tuple[float, ...]
) -> list[PublishedRow]:
    """Rows of baseline, crop alone, guided filter alone, and both tricks."""
    variants = ((False, "none"), (True, "none"), (False, "guided"), (True, "guided"))
    methods = (REIMPLEMENTED, REIMPLEMENTED, REIMPLEMENTED, TWO_TRICKS)
    return [
        row(table, method, "paper", masks, *values, backbone=backbone, crop=crop)
        for method, (crop, masks), values in zip(methods, variants, four, strict=True)
    ]


# fmt: off
_TABLE_1 = (
    _row(1, "LOST", "authors", "none", .797, .410, .473, .871, .518, .611, .895, .654, .758),
    _row(None, "Deep Spectral", "authors", "none",
         .808, .428, .553, .841, .471, .621, .864, .645, .785,
         source="later papers on unsupervised saliency; not in arXiv 2404.03392"),
    _row(1, "TokenCut", "authors", "none", .880, .533, .600, .903, .576, .672, .918, .712, .803),
    _row(1, "FOUND (single)", "authors", "none",
         .920, .586, .683, .939, .637, .733, .912, .793, .946, f_family="per_image"),
    _row(1, "MOVE", "authors", "none", .923, .615, .712, .950, .713, .815, .954, .830, .916),
    _row(1, SEMPART, "authors", "none", .932, .668, .764, .959, .749, .867, .964, .855, .947),
    _row(1, REIMPLEMENTED, "paper", "none",
         .908, .664, .758, .949, .761, .856, .950, .853, .925, crop=False),
    _row(1, TWO_TRICKS, "paper", "guided",
         .920, .684, .765, .956, .787, .869, .952, .862, .931, crop=True),
    _row(1, "MOVE", "authors", "bilateral_16_16_8",
         .931, .636, .734, .951, .687, .821, .953, .801, .916),
    # The paper gives these nine numbers twice: here, and for SelfMask on Sempart further down.
    _row(1, SEMPART, "authors", "bilateral_unstated",
         .942, .698, .799, .958, .749, .879, .963, .850, .944),
    _row(1, REIMPLEMENTED, "paper", "bilateral",
         .914, .689, .770, .950, .765, .857, .950, .849, .925, crop=False),
    _row(1, TWO_TRICKS, "paper", "bilateral",
         .920, .675, .763, .950, .742, .855, .945, .830, .920, crop=True),
    _row(1, "SelfMask on MOVE", "authors", "none",
         .933, .666, .756, .954, .728, .829, .956, .835, .921, f_family="per_image"),
    _row(1, "SelfMask on Sempart", "authors", "none",
         .942, .698, .799, .958, .749, .879, .963, .850, .944, f_family="per_image"),
    _row(1, "SelfMask on Sempart (re-implemented)", "paper", "none",
         .923, .674, .768, .953, .743, .866, .962, .854, .942, f_family="per_image"),
    _row(1, "SelfMask on two tricks", "paper", "none",
         .935, .685, .790, .956, .747, .881, .962, .852, .948, f_family="per_image"),
)
_TABLE_2 = (
    _of_boxes(2, "LOST", "authors", "none", 61.9, 64.0, 50.7),
    _of_boxes(2, "Deep Spectral", "authors", "none", 62.7, 66.4, 50.7),
    _of_boxes(2, "TokenCut", "authors", "none", 68.8, 72.1, 58.8),
    _of_boxes(2, "MOVE", "authors", "none", 76.0, 78.8, 66.6),
    _of_boxes(2, SEMPART, "authors", "none", 75.1, 76.8, 66.4),
    _of_boxes(2, REIMPLEMENTED, "paper", "none", 71.7, 75.9, 61.3, crop=False),
    _of_boxes(2, TWO_TRICKS, "paper", "guided", 74.4, 77.0, 63.4, crop=True),
)
_TABLE_3 = (
    *_ablation(_of_iou, 3, "dino_vits8", (.664, .761, .853), (.670, .772, .852),
               (.684, .784, .869), (.684, .787, .862)),
    *_ablation(_of_iou, 3, "dino_vits16", (.604, .692, .784), (.647, .710, .812),
               (.608, .697, .788), (.652, .714, .816)),
    *_ablation(_of_iou, 3, "ibot_vits16", (.584, .650, .793), (.588, .654, .797),
               (.600, .664, .806), (.604, .668, .811)),
)
_TABLE_4 = _ablation(_of_boxes, 4, "dino_vits8", (71.7, 75.9, 61.3), (74.2, 77.0, 64.3),
                     (71.7, 75.7, 61.3), (74.4, 77.0, 63.4))
_TABLE_5 = (
    _row(5, "TokenCut", "authors", "none", .880, .533, .600, .903, .576, .672, .918, .712, .803),
    _row(5, "TokenCut", "paper", "guided", .880, .553, .676, .907, .597, .740, .925, .740, .861),
    _row(5, "TokenCut", "authors", "bilateral_16_16_8",
         .897, .618, .697, .914, .624, .755, .934, .772, .874),
    _row(5, "MOVE", "authors", "none", .923, .615, .712, .950, .713, .815, .954, .830, .916),
    _row(5, "MOVE", "paper", "guided", .925, .615, .631, .952, .726, .813, .958, .843, .923),
    _row(5, "MOVE", "authors", "bilateral_16_16_8",
         .931, .636, .734, .951, .687, .821, .953, .801, .916),
)
# fmt: on
ROWS: tuple[PublishedRow, ...] = (*_TABLE_1, *_TABLE_2, *_TABLE_3, *_TABLE_4, *_TABLE_5)
"""Every published row, in the order of the paper."""
