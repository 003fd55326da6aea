"""What bfloat16 does to a training: losses and gradients beside those of float32.

Packages that read images and weights are imported where they are needed, so that all else runs
where they are not installed.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.train_step import replicate

from .sempart_programs import B1, DTYPES, first_variables, make_segmenter, make_step

POOL = 64
"""Images that the batches are taken from, again and again."""
RESIZED = 355 / 320
"""Short side of a photograph before its crop, as in training, in sides of the crop."""


def compare_types(
    *, backbone: str, weights: str, images: str, side: int, batch: int, steps: int
) -> dict[str, dict[str, list[float]]]:
    """Train with both tricks in float32, and take each step from its state in the others, too.

    Trainings of their own would part: which optimum one reaches follows from its rounding.

    Args:
        backbone: name of the backbone.
        weights: file of its weights; random ones if empty.
        images: folder of image files; scenes are drawn if empty.
        side: of an image in pixels.
        batch: images a step.
        steps: how many.

    Returns:
        By the type, one of :data:`DTYPES`: ``losses`` of the steps, and ``gradients``, the norm of
        the difference from that of float32, relative to the latter's.
    """
    pixels = load_images(images, side, min(POOL, steps * batch))
    variables = first_variables(backbone, "float32", side)
    programs = {}
    for dtype in DTYPES:
        network, frozen_params = make_segmenter(backbone, dtype)
        if weights:
            frozen_params = _load_weights(backbone, weights)
        step, state = make_step(network, variables, tricks=True)
        programs[dtype] = step, replicate(frozen_params, jax.local_devices()[:1])
    found: dict[str, dict[str, list[float]]] = {
        dtype: {"losses": [], "gradients": []} for dtype in DTYPES
    }
    for index in range(steps):
        chosen = np.arange(index * batch, (index + 1) * batch) % len(pixels)
        examples = Examples(pixels[chosen][None])
        # A step gives its state's memory away.
        after = {
            dtype: step(jax.tree.map(jnp.copy, state), frozen_params, examples)
            for dtype, (step, frozen_params) in programs.items()
        }
        state, metrics = after["float32"]
        # Each gradient is added to the same first moment, by 1 - b1 of it.
        norm = (1 - B1) * metrics["grad_norm"][0]
        moments = {d: optax.tree.get(s.opt_state, "mu") for d, (s, _) in after.items()}
        for dtype, (_, metrics) in after.items():
            apart = optax.tree.norm(optax.tree.sub(moments[dtype], moments["float32"]))
            found[dtype]["losses"].append(float(metrics["total"][0]))
            found[dtype]["gradients"].append(float(apart / norm))
    return found


def difference(found: dict[str, dict[str, list[float]]]) -> float:
    """Return by how much the loss of a step differs at most, relative to that of float32.

    Not a number where one of them is none.
    """
    losses = np.asarray([of_type["losses"] for of_type in found.values()])
    return float(np.max(np.abs(losses / found["float32"]["losses"] - 1)))


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
    from sempart_jax.networks.pretrained import load_backbone_params

    return load_backbone_params(backbone, weights)
