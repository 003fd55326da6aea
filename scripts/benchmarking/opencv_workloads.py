"""OpenCV's guided filter."""

import cv2
import numpy as np

from .child import Work
from .inputs import filter_inputs


def guided(*, height: int, width: int, radius: int) -> Work:
    """``cv2.ximgproc.guidedFilter`` by the mean of R, G and B, from uint8 RGB.

    It reflects the image at the border where ours clips the windows, so that results differ there.
    It uses all cores.
    """
    image, mask = filter_inputs(height, width)
    mean = np.full((1, 3), 1 / (3 * 255), np.float32)

    def run() -> np.ndarray:
        guide = cv2.transform(image.astype(np.float32), mean)
        return cv2.ximgproc.guidedFilter(guide, mask, radius, 1e-3)

    return Work(run, run)
