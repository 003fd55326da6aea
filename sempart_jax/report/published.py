"""Published scores to hold an evaluation against.

Numbers of *Two Tricks to Improve Unsupervised Segmentation Learning* (arXiv 2404.03392), Tables 1
to 5, with what a reader must know before comparing: who evaluated, and by which F measure.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

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


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One method's line in a published table.

    Attributes:
        table: number of the table in arXiv 2404.03392; None if the line is from elsewhere.
        source: where the numbers stand, in words.
        method: name of the method.
        evaluator: see :data:`Evaluator`.
        postprocessing: our key of what was done to its masks: ``none``, ``guided``, ``bilateral``
            (sigmas 24, 4, 4), ``bilateral_16_16_8``, or ``bilateral_unstated``.
        backbone: our key of the frozen backbone, where the table names one.
        crop: whether it was trained with the crops of trick 2; None for methods without them.
        f_family: see :data:`FFamily`; None where no F measure is given.
        scores: data set to metric (``accuracy``, ``iou``, ``max_f_beta`` in [0, 1] or ``corloc``
            in percent) to value.
    """

    table: int | None
    source: str
    method: str
    evaluator: Evaluator
    postprocessing: str
    backbone: str | None
    crop: bool | None
    f_family: FFamily | None
    scores: Mapping[str, Mapping[str, float]]


def find_rows(
    *,
    table: int | None = None,
    method: str | None = None,
    postprocessing: str | None = None,
    backbone: str | None = None,
    crop: bool | None = None,
    evaluator: Evaluator | None = None,
    dataset: str | None = None,
) -> tuple[PublishedRow, ...]:
    """Look published rows up, in the order of the paper.

    Args:
        table: number of the table.
        method: name of the method.
        postprocessing: key of the post-processing.
        backbone: key of the backbone.
        crop: whether trained with crops.
        evaluator: who scored.
        dataset: key of a data set that the row has scores of.

    Returns:
        Rows that agree with every argument given.
    """
    wanted = {
        "table": table,
        "method": method,
        "postprocessing": postprocessing,
        "backbone": backbone,
        "crop": crop,
        "evaluator": evaluator,
    }
    return tuple(
        row
        for row in ROWS
        if all(value is None or getattr(row, field) == value for field, value in wanted.items())
        and (dataset is None or dataset in row.scores)
    )


def _saliency(
    table: int | None,
    method: str,
    evaluator: Evaluator,
    postprocessing: str,
    *values: float,
    crop: bool | None = None,
    f_family: FFamily = "mean_curve",
    source: str | None = None,
) -> PublishedRow:
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    scores = {
        dataset: dict(zip(("accuracy", "iou", "max_f_beta"), triple, strict=True))
        for dataset, triple in zip(SALIENCY_DATASETS, triples, strict=True)
    }
    source = source or f"{SOURCE}, Table {table}"
    return PublishedRow(
        table, source, method, evaluator, postprocessing, None, crop, f_family, scores
    )


def _corloc(
    method: str,
    evaluator: Evaluator,
    postprocessing: str,
    *values: float,
    crop: bool | None = None,
) -> PublishedRow:
    scores = _one_metric("corloc", LOCALIZATION_DATASETS, values)
    return PublishedRow(
        2, f"{SOURCE}, Table 2", method, evaluator, postprocessing, None, crop, None, scores
    )


def _ablation(
    table: int,
    metric: str,
    datasets: tuple[str, ...],
    *four: tuple[float, ...],
    backbone: str,
) -> tuple[PublishedRow, ...]:
    """Rows of baseline, crop alone, guided filter alone, and both tricks."""
    variants = ((False, "none"), (True, "none"), (False, "guided"), (True, "guided"))
    return tuple(
        PublishedRow(
            table,
            f"{SOURCE}, Table {table}",
            TWO_TRICKS if crop and postprocessing == "guided" else REIMPLEMENTED,
            "paper",
            postprocessing,
            backbone,
            crop,
            None,
            _one_metric(metric, datasets, values),
        )
        for (crop, postprocessing), values in zip(variants, four, strict=True)
    )


def _one_metric(
    metric: str, datasets: tuple[str, ...], values: tuple[float, ...]
) -> dict[str, dict[str, float]]:
    return {dataset: {metric: value} for dataset, value in zip(datasets, values, strict=True)}


SEMPART = "Sempart"
REIMPLEMENTED = "Sempart (re-implemented)"
"""The baseline as arXiv 2404.03392 trained it, its code not being released then."""
TWO_TRICKS = "two tricks"

# fmt: off
_TABLE_1 = (
    _saliency(1, "LOST", "authors", "none",
              .797, .410, .473, .871, .518, .611, .895, .654, .758),
    _saliency(None, "Deep Spectral", "authors", "none",
              .808, .428, .553, .841, .471, .621, .864, .645, .785,
              source="later papers on unsupervised saliency; not in arXiv 2404.03392"),
    _saliency(1, "TokenCut", "authors", "none",
              .880, .533, .600, .903, .576, .672, .918, .712, .803),
    _saliency(1, "FOUND (single)", "authors", "none",
              .920, .586, .683, .939, .637, .733, .912, .793, .946, f_family="per_image"),
    _saliency(1, "MOVE", "authors", "none",
              .923, .615, .712, .950, .713, .815, .954, .830, .916),
    _saliency(1, SEMPART, "authors", "none",
              .932, .668, .764, .959, .749, .867, .964, .855, .947),
    _saliency(1, REIMPLEMENTED, "paper", "none",
              .908, .664, .758, .949, .761, .856, .950, .853, .925, crop=False),
    _saliency(1, TWO_TRICKS, "paper", "guided",
              .920, .684, .765, .956, .787, .869, .952, .862, .931, crop=True),
    _saliency(1, "MOVE", "authors", "bilateral_16_16_8",
              .931, .636, .734, .951, .687, .821, .953, .801, .916),
    # The paper gives these nine numbers twice: here, and for SelfMask on Sempart further down.
    _saliency(1, SEMPART, "authors", "bilateral_unstated",
              .942, .698, .799, .958, .749, .879, .963, .850, .944),
    _saliency(1, REIMPLEMENTED, "paper", "bilateral",
              .914, .689, .770, .950, .765, .857, .950, .849, .925, crop=False),
    _saliency(1, TWO_TRICKS, "paper", "bilateral",
              .920, .675, .763, .950, .742, .855, .945, .830, .920, crop=True),
    _saliency(1, "SelfMask on MOVE", "authors", "none",
              .933, .666, .756, .954, .728, .829, .956, .835, .921, f_family="per_image"),
    _saliency(1, "SelfMask on Sempart", "authors", "none",
              .942, .698, .799, .958, .749, .879, .963, .850, .944, f_family="per_image"),
    _saliency(1, "SelfMask on Sempart (re-implemented)", "paper", "none",
              .923, .674, .768, .953, .743, .866, .962, .854, .942, f_family="per_image"),
    _saliency(1, "SelfMask on two tricks", "paper", "none",
              .935, .685, .790, .956, .747, .881, .962, .852, .948, f_family="per_image"),
)
_TABLE_2 = (
    _corloc("LOST", "authors", "none", 61.9, 64.0, 50.7),
    _corloc("Deep Spectral", "authors", "none", 62.7, 66.4, 50.7),
    _corloc("TokenCut", "authors", "none", 68.8, 72.1, 58.8),
    _corloc("MOVE", "authors", "none", 76.0, 78.8, 66.6),
    _corloc(SEMPART, "authors", "none", 75.1, 76.8, 66.4),
    _corloc(REIMPLEMENTED, "paper", "none", 71.7, 75.9, 61.3, crop=False),
    _corloc(TWO_TRICKS, "paper", "guided", 74.4, 77.0, 63.4, crop=True),
)
_TABLE_3 = (
    *_ablation(3, "iou", SALIENCY_DATASETS, (.664, .761, .853), (.670, .772, .852),
               (.684, .784, .869), (.684, .787, .862), backbone="dino_vits8"),
    *_ablation(3, "iou", SALIENCY_DATASETS, (.604, .692, .784), (.647, .710, .812),
               (.608, .697, .788), (.652, .714, .816), backbone="dino_vits16"),
    *_ablation(3, "iou", SALIENCY_DATASETS, (.584, .650, .793), (.588, .654, .797),
               (.600, .664, .806), (.604, .668, .811), backbone="ibot_vits16"),
)
_TABLE_4 = _ablation(4, "corloc", LOCALIZATION_DATASETS, (71.7, 75.9, 61.3), (74.2, 77.0, 64.3),
                     (71.7, 75.7, 61.3), (74.4, 77.0, 63.4), backbone="dino_vits8")
_TABLE_5 = (
    _saliency(5, "TokenCut", "authors", "none",
              .880, .533, .600, .903, .576, .672, .918, .712, .803),
    _saliency(5, "TokenCut", "paper", "guided",
              .880, .553, .676, .907, .597, .740, .925, .740, .861),
    _saliency(5, "TokenCut", "authors", "bilateral_16_16_8",
              .897, .618, .697, .914, .624, .755, .934, .772, .874),
    _saliency(5, "MOVE", "authors", "none",
              .923, .615, .712, .950, .713, .815, .954, .830, .916),
    _saliency(5, "MOVE", "paper", "guided",
              .925, .615, .631, .952, .726, .813, .958, .843, .923),
    _saliency(5, "MOVE", "authors", "bilateral_16_16_8",
              .931, .636, .734, .951, .687, .821, .953, .801, .916),
)
# fmt: on
ROWS: tuple[PublishedRow, ...] = (*_TABLE_1, *_TABLE_2, *_TABLE_3, *_TABLE_4, *_TABLE_5)
"""Every published row, in the order of the paper."""
