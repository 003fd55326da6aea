"""What bfloat16 does to a training: its losses beside those of float32.

Packages that read images and weights are imported where they are needed, so that all else runs
where they are not installed.
"""

import math
from typing import Any

import jax
import numpy as np

from sempart_jax.objectives.base import Examples
from sempart_jax.train_step import replicate

from .sempart_programs import DTYPES, first_variables, make_segmenter, make_step

LAST = 10
"""Losses at the end that are averaged."""
POOL = 64
"""Images that the batches are taken from, again and again."""
RESIZED = 355 / 320
"""Short side of a photograph before its crop, as in training, in sides of the crop."""


def train_in_all(
    *, backbone: str, weights: str, images: str, side: int, batch: int, steps: int
) -> dict[str, list[float]]:
    """Train with both tricks from one state on the same images, in each of :data:`DTYPES`.

    Args:
        backbone: name of the backbone.
        weights: file of its weights; random ones if empty.
        images: folder of image files; scenes are drawn if empty.
        side: of an image in pixels.
        batch: images a step.
        steps: how many.

    Returns:
        The losses by the type.
    """
    pixels = load_images(images, side, min(POOL, steps * batch))
    variables = first_variables(backbone, "float32", side)
    losses: dict[str, list[float]] = {}
    for dtype in DTYPES:
        network, frozen_params = make_segmenter(backbone, dtype)
        if weights:
            frozen_params = _load_weights(backbone, weights)
        step, state = make_step(network, variables, tricks=True)
        frozen_params = replicate(frozen_params, jax.local_devices()[:1])
        totals = []
        for index in range(steps):
            chosen = np.arange(index * batch, (index + 1) * batch) % len(pixels)
            state, metrics = step(state, frozen_params, Examples(pixels[chosen][None]))
            totals.append(metrics["total"])
        losses[dtype] = [float(total[0]) for total in jax.device_get(totals)]
    return losses


def difference(losses: dict[str, list[float]]) -> float:
    """Return by how much the mean of the last losses differs at most, relative to that of float32.

    Not a number where one of them is none.
    """
    means = np.asarray([np.mean(values[-LAST:]) for values in losses.values()])
    reference = np.mean(losses["float32"][-LAST:])
    return float(np.max(np.abs(means - reference)) / abs(reference))


def load_images(folder: str, side: int, count: int) -> np.ndarray:
    """Read photographs or draw scenes.

    Args:
        folder: of image files, of which the first ones are taken, each by a random square; scenes
            are drawn if empty.
        side: of the images in pixels.
        count: how many, or fewer where the folder has not so many.

    Returns:
        RGB uint8 ``[count, side, side, 3]``.

    Raises:
        FileNotFoundError: if the folder is not there or holds no image.
        UnreadableImageError: if a file cannot be read.
    """
    if not folder:
        from sempart_jax.data.synthetic import synthetic_scene

        scenes = (synthetic_scene(np.random.default_rng([0, i]), side)[0] for i in range(count))
        return np.stack(list(scenes))
    from sempart_jax.data.folder import find_images
    from sempart_jax.data.image_sizes import resize_short_side
    from sempart_jax.data.images import read_image

    rng = np.random.default_rng(0)
    crops = []
    for path in find_images(folder)[:count]:
        image = resize_short_side(read_image(path), math.ceil(side * RESIZED))
        top, left = (int(rng.integers(size - side + 1)) for size in image.shape[:2])
        crops.append(image[top : top + side, left : left + side])
    return np.stack(crops)


def _load_weights(backbone: str, weights: str) -> Any:
    from sempart_jax.models.pretrained import load_backbone_params

    return load_backbone_params(backbone, weights)
