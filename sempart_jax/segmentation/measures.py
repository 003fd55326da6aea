"""What is told of a mask in numbers, and its largest component alone."""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float

from sempart_jax.kernels.host_guided_filter import guided_radius


def largest_component(binary: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Take the component whose box is ``metrics.localization.largest_box`` of the whole.

    Args:
        binary: the mask.

    Returns:
        Its connected component (four neighbours) of the largest bounding box, the first of equal
        ones; empty if the mask is.
    """
    components, _ = scipy.ndimage.label(binary)
    areas = [
        (rows.stop - rows.start) * (columns.stop - columns.start)
        for rows, columns in scipy.ndimage.find_objects(components)
    ]
    return components == 1 + int(np.argmax(areas)) if areas else np.zeros_like(binary)


def keep_component(
    mask: Float[np.ndarray, "H W"],
    binary: Bool[np.ndarray, "H W"],
    component: Bool[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """Set a soft mask to 0 outside of one component and its soft rim.

    The rim is what is not foreground itself within the radius of the guided filter, which is as far
    as that smears an edge.

    Args:
        mask: soft mask in [0, 1].
        binary: its foreground.
        component: part of the foreground.

    Returns:
        Soft mask in [0, 1].
    """
    width = 2 * guided_radius(*mask.shape) + 1
    near = scipy.ndimage.maximum_filter(component.view(np.uint8), width).view(bool)
    near &= ~binary
    near |= component
    return np.where(near, mask, np.float32(0))


def expected_iou(mask: Float[np.ndarray, "H W"], binary: Bool[np.ndarray, "H W"]) -> float:
    """Say how decided a mask is: the IoU that it promises itself.

    If the soft values p were probabilities that a pixel is foreground, the cut mask b would have
    this IoU with the truth, as a ratio of expected areas: 1 where p is 0 or 1 everywhere, about
    one half where foreground is barely above, and background barely below 0.5. No ground truth is
    involved, and the values are not calibrated.

    Args:
        mask: soft mask in [0, 1].
        binary: the same, cut.

    Returns:
        In [0, 1]; 0 for an empty mask.
    """
    # E|b ∩ y| / E|b ∪ y| = sum_b p / (|b| + sum_not-b p)
    inside = float(np.sum(mask, where=binary, dtype=np.float64))
    union = np.count_nonzero(binary) + float(np.sum(mask, dtype=np.float64)) - inside
    return inside / union if inside else 0.0
