"""What a segmenter makes of pictures, side by side."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.report.panels import draw_panel


def draw_contact_sheet(
    segmenter: Segmenter, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a row for each picture: itself, its mask, the refined mask, and the cut-out on white.

    Pictures are RGB, of any sizes. A ValueError tells if there are none.
    """
    masks = segmenter.predictor(list(images))
    refined = [segmenter.finish(image, mask) for image, mask in zip(images, masks, strict=True)]
    pictures = [image.astype(np.float32) / 255 for image in images]
    cut_outs = [
        np.where(mask[..., None] > 0.5, picture, np.float32(1))
        for picture, mask in zip(pictures, refined, strict=True)
    ]
    return draw_panel(
        {
            "picture": pictures,
            "mask": [mask[..., None] for mask in masks],
            f"refined ({segmenter.refine})": [mask[..., None] for mask in refined],
            "cut-out": cut_outs,
        }
    )
