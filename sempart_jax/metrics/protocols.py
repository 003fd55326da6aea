"""What of an image is scored, and by which rule a mask is inverted: the protocols of the field."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sempart_jax.data.image_sizes import center_crop, resize_short_side

FOREGROUND_RULES = ("batch", "image", "none")
BATCH_RULE_SIZE = 8
"""Images whose common mean decides which side is foreground under the rule ``batch``."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to score a data set.

    Attributes:
        name: what the scores are labelled with.
        foreground_rule: see :func:`inverted_masks`.
        resize_size: pixels of the short side before the crop.
        crop_size: side of the centre crop in pixels; ``None`` scores the whole image at its own
            size.
    """

    name: str
    foreground_rule: str
    resize_size: int | None = None
    crop_size: int | None = None

    def frame(self, pixels: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "h w *C"]:
        """Cut out what is scored of a whole RGB image, a grey ground truth or a saved mask."""
        if self.crop_size is None or self.resize_size is None:
            return pixels
        return center_crop(resize_short_side(pixels, self.resize_size), self.crop_size)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # two tricks, Sec. 5.1, with the sizes of its released code
        Protocol("crop320", "batch", resize_size=335, crop_size=320),
        # how TokenCut, SelfMask and FOUND score
        Protocol("native", "image"),
    )
}


def inverted_masks(masks: list[Float[np.ndarray, "_ _"]], rule: str) -> Bool[np.ndarray, " N"]:
    """Say which masks have foreground and background swapped: the loss does not tell them apart.

    Args:
        masks: soft masks in [0, 1] in the order of the data set; sizes may differ.
        rule: ``batch`` decides for :data:`BATCH_RULE_SIZE` consecutive masks together, by the mean
            of all their pixels (two tricks, Sec. 5.1); ``image`` for each by its own mean; ``none``
            leaves all as they are.
    """
    if rule not in FOREGROUND_RULES:
        raise ValueError(
            f"unknown foreground rule {rule!r}: choose one of {', '.join(FOREGROUND_RULES)}"
        )
    if rule == "none":
        return np.zeros(len(masks), bool)
    group = BATCH_RULE_SIZE if rule == "batch" else 1
    inverted = np.zeros(len(masks), bool)
    for start in range(0, len(masks), group):
        part = masks[start : start + group]
        total = sum(float(mask.sum(dtype=np.float64)) for mask in part)
        inverted[start : start + group] = total > 0.5 * sum(mask.size for mask in part)
    return inverted


def centre_box(height: int, width: int, side: float = 0.6) -> Bool[np.ndarray, "H W"]:
    """Mask of a box in the middle: what anybody scores who knows nothing of an image.

    ``side`` is that of the box as a fraction of the image's.
    """
    rows, columns = (
        np.abs(np.arange(size) + 0.5 - size / 2) < side * size / 2 for size in (height, width)
    )
    return rows[:, None] & columns[None, :]
