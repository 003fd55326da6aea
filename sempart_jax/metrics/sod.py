"""Further scores that papers on salient object detection report, by PySODMetrics."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from sempart_jax.metrics.saliency import binarize, check_masks

_THRESHOLDS = 256


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


class SodScores:
    """Scores of images that come one after another, as the published tables give them.

    Each prediction is rounded to 8 bits and stretched so that its values range over all of [0, 1]:
    the mean absolute error therefore differs from that of
    :class:`sempart_jax.metrics.saliency.SaliencyScores`, which takes the prediction as it is.

    Three numbers of each image and one curve of the whole set are kept. Only :meth:`update` needs
    PySODMetrics.
    """

    def __init__(self) -> None:
        self._absolute_errors: list[float] = []
        self._weighted_fs: list[float] = []
        self._s_measures: list[float] = []
        self._e_curve_sum = np.zeros(_THRESHOLDS)

    def update(
        self,
        prediction: Shaped[np.ndarray, "*N H W"],
        ground_truth: Shaped[np.ndarray, "*N H W"],
    ) -> None:
        """Add one image ``[H, W]`` of any size, or several of one size ``[N, H, W]``.

        Args:
            prediction: soft masks in [0, 1] or boolean masks.
            ground_truth: soft masks in [0, 1] or boolean masks, cut at one half.

        Raises:
            ModuleNotFoundError: if PySODMetrics is not installed.
            ValueError: as :func:`sempart_jax.metrics.saliency.check_masks` does. Nothing has been
                added then.
        """
        check_masks(prediction, ground_truth, f"after {len(self._absolute_errors)} images")
        if prediction.ndim == 2:
            prediction, ground_truth = prediction[None], ground_truth[None]
        for soft, truth in zip(prediction, ground_truth, strict=True):
            self._add_image(soft, binarize(truth))

    def _add_image(self, soft: Shaped[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> None:
        grey = np.rint(np.clip(soft, 0, 1) * 255).astype(np.uint8)
        black_and_white = np.where(truth, np.uint8(255), np.uint8(0))
        results: dict[str, Any] = {}
        for measure in _new_measures():
            measure.step(pred=grey, gt=black_and_white)
            # A mean over this image alone
            results |= measure.get_results()
        self._absolute_errors.append(float(results["mae"]))
        self._weighted_fs.append(float(results["wfm"]))
        self._s_measures.append(float(results["sm"]))
        self._e_curve_sum += results["em"]["curve"]

    def merge(self, other: "SodScores") -> None:
        """Add the images of another instance, as from another worker or part of the data set.

        Args:
            other: scores of other images; stays as it is.
        """
        self._absolute_errors += other._absolute_errors
        self._weighted_fs += other._weighted_fs
        self._s_measures += other._s_measures
        self._e_curve_sum += other._e_curve_sum

    def compute(self) -> ExtraScores:
        """Average over the images so far; more may follow.

        Raises:
            ValueError: if there has been no image.
        """
        images = len(self._absolute_errors)
        if not images:
            raise ValueError("no image has been scored: call update with at least one")
        e_curve = self._e_curve_sum / images
        return ExtraScores(
            mae=float(np.mean(self._absolute_errors)),
            weighted_f=float(np.mean(self._weighted_fs)),
            s_measure=float(np.mean(self._s_measures)),
            max_e_measure=float(e_curve.max()),
            mean_e_measure=float(e_curve.mean()),
            images=images,
        )

    @property
    def mae_per_image(self) -> Float[np.ndarray, " N"]:
        """Mean absolute error of each image's stretched prediction, in [0, 1]."""
        return np.array(self._absolute_errors, np.float64)

    @property
    def weighted_f_per_image(self) -> Float[np.ndarray, " N"]:
        """Weighted F measure of each image, in [0, 1]."""
        return np.array(self._weighted_fs, np.float64)

    @property
    def s_measure_per_image(self) -> Float[np.ndarray, " N"]:
        """Structure measure of each image, in [0, 1]."""
        return np.array(self._s_measures, np.float64)


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
