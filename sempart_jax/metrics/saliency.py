"""Scores of predicted masks against ground-truth masks, as saliency papers report them.

:class:`SaliencyScores` takes images one by one or in batches and keeps a few numbers of each, so a
data set is scored at the native sizes of its images. The functions of arrays ``[N, H, W]`` are
that class applied once.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

THRESHOLD = 0.5
"""Above it a pixel is foreground, in ground truths and for accuracy and IoU."""
F_THRESHOLDS = np.arange(255) / 255
"""Thresholds of the curves: k/255 for k from 0 to 254."""
BETA_SQUARED = 0.3
"""Weight of precision in the F measure, as in saliency detection since Achanta et al. (2009)."""
RANGE_TOLERANCE = 0.5
"""How far a mask may leave [0, 1], as the guided filter's does next to strong edges: it is clipped.
What lies further out is no mask in [0, 1] but one in 0..255, or the work of a bug."""


@dataclasses.dataclass(frozen=True, eq=False)
class SaliencyResult:
    """Mean scores of a set of images.

    Attributes:
        accuracy: fraction of right pixels.
        iou: intersection over union of the images whose union is not empty; NaN if none is.
        max_f_beta: maximum of ``f_curve``.
        mae: absolute difference of the soft prediction and the binary ground truth.
        f_curve: F measure at each of :data:`F_THRESHOLDS`, averaged over the images.
        precision: precision at each of :data:`F_THRESHOLDS`, averaged over the images.
        recall: recall at each of :data:`F_THRESHOLDS`, averaged over the images.
        images: number of images.
    """

    accuracy: float
    iou: float
    max_f_beta: float
    mae: float
    f_curve: Float[np.ndarray, "255"]
    precision: Float[np.ndarray, "255"]
    recall: Float[np.ndarray, "255"]
    images: int


class SaliencyScores:
    """Scores of images that come one after another.

    Three numbers of each image and three curves of the whole set are kept. Accuracy and IoU cut
    both masks at one half. F_beta follows two tricks, Sec. 5.1 (arXiv 2404.03392): precision and
    recall of each image where its prediction is above a threshold, F averaged over the images for
    each threshold, then the maximum. An empty prediction has precision 1, an empty ground truth
    recall 1, and 0/0 counts 0.

    The ground truth is cut at one half for every score. The thresholds of the curves are rounded
    to the precision of the prediction, so the grey level k of an 8-bit mask, divided by 255, lies
    on threshold k and not above it in float32 as in float64.
    """

    def __init__(self) -> None:
        self._accuracies: list[float] = []
        self._ious: list[float] = []
        self._absolute_errors: list[float] = []
        self._curve_sums: Float[np.ndarray, "3 255"] = np.zeros((3, len(F_THRESHOLDS)))

    def update(
        self,
        prediction: Shaped[np.ndarray, "*N H W"],
        ground_truth: Shaped[np.ndarray, "*N H W"],
    ) -> None:
        """Add one image ``[H, W]`` of any size, or several of one size ``[N, H, W]``.

        Masks are soft, in [0, 1], or boolean. A ValueError tells of others, see
        :func:`check_masks`; nothing has been added then.
        """
        prediction, ground_truth = np.asarray(prediction), np.asarray(ground_truth)
        check_masks(prediction, ground_truth, f"after {len(self._accuracies)} images")
        if prediction.ndim == 2:
            prediction, ground_truth = prediction[None], ground_truth[None]
        for soft, truth in zip(prediction, ground_truth, strict=True):
            self._add_image(soft, binarize(truth))

    def _add_image(self, soft: Shaped[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> None:
        cut = binarize(soft)
        intersection = np.count_nonzero(cut & truth)
        union = np.count_nonzero(cut | truth)
        self._accuracies.append(np.count_nonzero(cut == truth) / truth.size)
        self._ious.append(intersection / union if union else np.nan)

        if not np.issubdtype(soft.dtype, np.floating):
            soft = soft.astype(np.float32)
        soft = np.clip(soft, 0, 1)
        self._absolute_errors.append(float(np.mean(np.abs(soft - truth), dtype=np.float64)))
        self._curve_sums += _curves(soft, truth)

    def merge(self, other: "SaliencyScores") -> None:
        """Add the images of another instance, as from another worker or part of the data set.

        Args:
            other: scores of other images; stays as it is.
        """
        self._accuracies += other._accuracies
        self._ious += other._ious
        self._absolute_errors += other._absolute_errors
        self._curve_sums += other._curve_sums

    def compute(self) -> SaliencyResult:
        """Average over the images so far; more may follow.

        Raises:
            ValueError: if there has been no image.
        """
        images = len(self._accuracies)
        if not images:
            raise ValueError("no image has been scored: call update with at least one")
        precision, recall, f_curve = self._curve_sums / images
        ious = self.iou_per_image
        defined = ious[~np.isnan(ious)]
        return SaliencyResult(
            accuracy=float(np.mean(self._accuracies)),
            iou=float(np.mean(defined)) if defined.size else float("nan"),
            max_f_beta=float(np.max(f_curve)),
            mae=float(np.mean(self._absolute_errors)),
            f_curve=f_curve,
            precision=precision,
            recall=recall,
            images=images,
        )

    @property
    def accuracy_per_image(self) -> Float[np.ndarray, " N"]:
        """Fraction of right pixels of each image, in [0, 1]."""
        return np.array(self._accuracies)

    @property
    def iou_per_image(self) -> Float[np.ndarray, " N"]:
        """Intersection over union of each image, in [0, 1]; NaN where both masks are empty."""
        return np.array(self._ious)


def binarize(mask: Shaped[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Cut a mask in [0, 1] at one half; a boolean mask stays as it is."""
    return mask if mask.dtype == bool else mask > THRESHOLD


def check_masks(
    prediction: Shaped[np.ndarray, "*N H W"], ground_truth: Shaped[np.ndarray, "*N H W"], place: str
) -> None:
    """Refuse masks that cannot be scored against each other; ``place`` is where, for the message.

    Raises:
        ValueError: if the shapes differ or are not of these kinds, if there are no pixels, or if
            a value leaves [0, 1] by more than :data:`RANGE_TOLERANCE`.
    """
    if prediction.shape != ground_truth.shape or prediction.ndim not in (2, 3):
        raise ValueError(
            f"{place}: prediction {prediction.shape} and ground truth {ground_truth.shape} must "
            "have one shape, [H, W] or [N, H, W]: resize the prediction to the ground truth"
        )
    if not prediction.size:
        raise ValueError(f"{place}: masks of shape {prediction.shape} have no pixels to score")
    for name, mask in (("prediction", prediction), ("ground truth", ground_truth)):
        low, high = mask.min(), mask.max()
        # Comparisons with NaN are false.
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise ValueError(
                f"{place}: {name} has values from {low} to {high}, but masks must lie in [0, 1]: "
                "divide 8-bit masks by 255, and look for the cause of NaN"
            )


def pixel_accuracy(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> float:
    """Mean fraction of right pixels.

    Args:
        prediction: soft or boolean masks ``[N, H, W]``, cut at one half.
        ground_truth: soft or boolean masks ``[N, H, W]``, cut at one half.

    Returns:
        Accuracy in [0, 1].

    Raises:
        ValueError: as :meth:`SaliencyScores.update` and :meth:`SaliencyScores.compute` do.
    """
    return _score(prediction, ground_truth).accuracy


def iou(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> float:
    """Mean intersection over union, in [0, 1], of the images whose union is not empty.

    NaN if none is; for all else see :func:`pixel_accuracy`.
    """
    return _score(prediction, ground_truth).iou


def max_f_beta(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> float:
    """Maximum over :data:`F_THRESHOLDS` of the F measure's mean over the images, in [0, 1].

    For beta^2 = 0.3, by the rules of :class:`SaliencyScores`; for all else see
    :func:`pixel_accuracy`.
    """
    return _score(prediction, ground_truth).max_f_beta


def _score(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> SaliencyResult:
    scores = SaliencyScores()
    scores.update(prediction, ground_truth)
    return scores.compute()


def _curves(
    soft: Float[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "3 255"]:
    """Precision, recall and F measure of one image at each threshold, from one histogram."""
    bins = len(F_THRESHOLDS) + 1
    cells = _thresholds_below(soft.ravel()) + bins * truth.ravel()
    histogram = np.bincount(cells, minlength=2 * bins).reshape(2, bins)
    # above[., k] = pixels of background and foreground with more than k thresholds below them
    above = np.cumsum(histogram[:, ::-1], axis=1)[:, -2::-1]

    hits, predicted = above[1].astype(np.float64), above.sum(axis=0)
    precision = np.divide(hits, predicted, out=np.ones_like(hits), where=predicted > 0)
    foreground = np.count_nonzero(truth)
    recall = hits / foreground if foreground else np.ones_like(hits)
    # F = (1 + beta^2) P R / (beta^2 P + R)
    denominator = BETA_SQUARED * precision + recall
    f_beta = np.divide(
        (1 + BETA_SQUARED) * precision * recall,
        denominator,
        out=np.zeros_like(hits),
        where=denominator > 0,
    )
    return np.stack([precision, recall, f_beta])


def _thresholds_below(values: Float[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    """Count the thresholds, rounded to the precision of the values, that each value is above."""
    last = len(F_THRESHOLDS)
    edges = np.append(F_THRESHOLDS, np.inf).astype(values.dtype)
    # n = ceil(255 value) thresholds lie below the value. On a threshold the product does not round
    # up in float16, float32 or float64; a little above one it may round down to it, and n is one
    # short.
    count = np.minimum(np.ceil(values * last), last).astype(np.intp)
    count += values > edges[count]
    return count
