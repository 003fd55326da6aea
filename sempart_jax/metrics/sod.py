"""Further scores that papers on salient object detection report, by PySODMetrics."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

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
    """

    mae: float
    weighted_f: float
    s_measure: float
    max_e_measure: float
    mean_e_measure: float


def sod_scores(
    prediction: Shaped[np.ndarray, "H W"], ground_truth: Shaped[np.ndarray, "H W"]
) -> Float[np.ndarray, "259"]:
    """Score one image as the published tables do, for :func:`average`.

    The prediction is rounded to 8 bits and stretched so that its values range over all of [0, 1]:
    the mean absolute error therefore differs from that of
    :class:`sempart_jax.metrics.saliency.SaliencyScores`, which takes the prediction as it is.

    Args:
        prediction: soft mask in [0, 1] or boolean mask.
        ground_truth: soft mask in [0, 1] or boolean mask, cut at one half.

    Returns:
        The first three of :class:`ExtraScores`, and the enhanced-alignment measure at each of 256
        thresholds.

    Raises:
        ModuleNotFoundError: if PySODMetrics is not installed.
        ValueError: as :func:`sempart_jax.metrics.saliency.check_masks` does.
    """
    check_masks(prediction, ground_truth, "further scores")
    grey = np.rint(np.clip(prediction, 0, 1) * 255).astype(np.uint8)
    black_and_white = np.where(binarize(ground_truth), np.uint8(255), np.uint8(0))
    results: dict[str, Any] = {}
    for measure in _new_measures():
        measure.step(pred=grey, gt=black_and_white)
        results |= measure.get_results()
    return np.hstack([results["mae"], results["wfm"], results["sm"], results["em"]["curve"]])


def average(scores: Sequence[Float[np.ndarray, "259"]]) -> ExtraScores:
    """Average the :func:`sod_scores` of one or more images."""
    mae, weighted_f, s_measure, *e_curve = np.mean(scores, axis=0).tolist()
    return ExtraScores(mae, weighted_f, s_measure, max(e_curve), float(np.mean(e_curve)))


def _new_measures() -> list[Any]:
    """Measures that have seen no image."""
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

    return [
        py_sod_metrics.MAE(),
        py_sod_metrics.WeightedFmeasure(),
        StructureMeasure(),
        py_sod_metrics.Emeasure(),
    ]
