"""Scores of predicted masks against ground-truth masks, as saliency papers report them."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

THRESHOLD = 0.5


def binarize(mask: Shaped[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Cut a mask in [0, 1] at one half; a boolean mask stays as it is."""
    return mask if mask.dtype == bool else mask > THRESHOLD


def accuracy_per_image(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> Float[np.ndarray, " N"]:
    """Fraction of the pixels of each image on the right side of the mask.

    Args:
        prediction: soft or boolean masks ``[N, H, W]``.
        ground_truth: soft or boolean masks ``[N, H, W]``.

    Returns:
        ``[N]`` in [0, 1].
    """
    agreement = binarize(prediction) == binarize(ground_truth)
    return agreement.reshape(len(agreement), -1).mean(axis=-1, dtype=np.float64)


def iou_per_image(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> Float[np.ndarray, " N"]:
    """Intersection over union of each image.

    Args:
        prediction: soft or boolean masks ``[N, H, W]``, cut at one half.
        ground_truth: soft or boolean masks ``[N, H, W]``, cut at one half.

    Returns:
        ``[N]`` in [0, 1]; NaN where both masks are empty.
    """
    prediction, ground_truth = binarize(prediction), binarize(ground_truth)
    intersection = np.sum(prediction & ground_truth, axis=(1, 2), dtype=np.float64)
    union = np.sum(prediction | ground_truth, axis=(1, 2), dtype=np.float64)
    return np.divide(intersection, union, out=np.full_like(union, np.nan), where=union > 0)


def pixel_accuracy(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> float:
    """Mean of :func:`accuracy_per_image`."""
    return float(np.mean(accuracy_per_image(prediction, ground_truth)))


def iou(
    prediction: Shaped[np.ndarray, "N H W"], ground_truth: Shaped[np.ndarray, "N H W"]
) -> float:
    """Mean of :func:`iou_per_image` over the images whose union is not empty; NaN if none is."""
    values = iou_per_image(prediction, ground_truth)
    values = values[~np.isnan(values)]
    return float(np.mean(values)) if values.size else float("nan")
