"""Further scores that papers on salient object detection report, by PySODMetrics."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Shaped

from sempart_jax.metrics.saliency import binarize, check_masks


@dataclasses.dataclass(frozen=True)
class ExtraScores:
    """Mean scores of a set of images.

    Attributes:
        mae: absolute difference of prediction and ground truth.
        weighted_f: weighted F measure, beta^2 = 1 (Margolin et al., CVPR 2014).
        s_measure: structure measure, alpha = 0.5 (Fan et al., ICCV 2017).
        max_e_measure: enhanced-alignment measure at its best threshold (Fan et al., IJCAI 2018).
        mean_e_measure: the same, averaged over the thresholds.
        images: number of images.
    """

    mae: float
    weighted_f: float
    s_measure: float
    max_e_measure: float
    mean_e_measure: float
    images: int


def extra_metrics(
    pairs: Iterable[tuple[Shaped[np.ndarray, "_ _"], Shaped[np.ndarray, "_ _"]]],
) -> ExtraScores:
    """Score as the published tables of these measures do.

    Each prediction is rounded to 8 bits and stretched so that its values range over all of [0, 1]:
    the mean absolute error therefore differs from that of
    :class:`sempart_jax.metrics.saliency.SaliencyScores`, which takes the prediction as it is.

    Args:
        pairs: prediction ``[H, W]`` and ground truth ``[H, W]`` of each image, soft in [0, 1] or
            boolean; the ground truth is cut at one half. Sizes may differ between
            images. Read one at a time.

    Returns:
        Scores averaged over the images.

    Raises:
        ModuleNotFoundError: if PySODMetrics is not installed.
        ValueError: if there is no image, or as ``check_masks`` raises.
    """
    try:
        import py_sod_metrics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"these scores need PySODMetrics, and {error.name} is not installed: "
            "pip install 'sempart_jax[metrics]'"
        ) from error

    class StructureMeasure(py_sod_metrics.Smeasure):
        def ssim(self, pred: np.ndarray, gt: np.ndarray) -> float:
            # A quadrant without pixels has weight 0; its mean would be NaN.
            return super().ssim(pred, gt) if pred.size else 0.0

    absolute_error = py_sod_metrics.MAE()
    weighted_f = py_sod_metrics.WeightedFmeasure()
    structure = StructureMeasure()
    alignment = py_sod_metrics.Emeasure()
    images = 0
    for prediction, ground_truth in pairs:
        check_masks(prediction, ground_truth, f"after {images} images")
        grey = np.rint(np.clip(prediction, 0, 1) * 255).astype(np.uint8)
        truth = np.where(binarize(ground_truth), np.uint8(255), np.uint8(0))
        for measure in (absolute_error, weighted_f, structure, alignment):
            measure.step(pred=grey, gt=truth)
        images += 1
    if not images:
        raise ValueError("no image to score: give at least one pair of masks")
    e_curve = alignment.get_results()["em"]["curve"]
    return ExtraScores(
        mae=float(absolute_error.get_results()["mae"]),
        weighted_f=float(weighted_f.get_results()["wfm"]),
        s_measure=float(structure.get_results()["sm"]),
        max_e_measure=float(e_curve.max()),
        mean_e_measure=float(e_curve.mean()),
        images=images,
    )
