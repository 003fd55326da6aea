"""The size at which the network sees an image: few shapes for images of all sizes.

Each new shape is compiled anew, so an image is brought to the nearest of a few aspect ratios, those
that most photographs have. An image of another ratio is stretched on its way in, and its mask back.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Shaped, UInt8

from sempart_jax.data.image_sizes import resize
from sempart_jax.in_flight import map_in_flight

ASPECT_RATIOS = (1.0, 4 / 3, 3 / 2, 16 / 9)
"""Long side over short side; with portrait and landscape, seven shapes in all."""


def input_size(height: int, width: int, short_side: int, patch_size: int) -> tuple[int, int]:
    """Choose the size at which the network sees an image.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        short_side: wanted short side in pixels, rounded to a multiple of the patch.
        patch_size: side of the backbone's patches in pixels.

    Returns:
        Height and width, multiples of the patch, in the nearest of :data:`ASPECT_RATIOS`.

    Raises:
        ValueError: if a size is not positive.
    """
    sizes = {"height": height, "width": width, "short_side": short_side, "patch_size": patch_size}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1 pixel, got {size}")
    aspect = math.log(max(height, width) / min(height, width))
    ratio = min(ASPECT_RATIOS, key=lambda candidate: abs(math.log(candidate) - aspect))
    short = max(1, round(short_side / patch_size)) * patch_size
    long = round(short * ratio / patch_size) * patch_size
    return (short, long) if width >= height else (long, short)


def predict_in_few_shapes(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    start: Callable[
        [UInt8[np.ndarray, "B h w 3"]], Callable[[], Iterable[Shaped[np.ndarray, "_ _"]]]
    ],
    *,
    short_side: int,
    patch_size: int,
    batch_size: int,
) -> list[Shaped[np.ndarray, "_ _"]]:
    """Bring images of all sizes to those of :func:`input_size`, and predict for each size at once.

    Two batches are in flight: the next is resized while one is computed.

    Args:
        images: RGB uint8 images.
        start: begins to predict for images of one size, and returns what waits for a mask of each.
        short_side: wanted short side in pixels.
        patch_size: side of the backbone's patches in pixels.
        batch_size: most images of one call.

    Returns:
        The masks in the order of ``images``, as they are predicted.
    """
    places: dict[tuple[int, int], list[int]] = {}
    for place, image in enumerate(images):
        height, width = image.shape[:2]
        size = input_size(height, width, short_side, patch_size)
        places.setdefault(size, []).append(place)
    batches = [
        (size, members[first : first + batch_size])
        for size, members in places.items()
        for first in range(0, len(members), batch_size)
    ]

    def start_batch(
        batch: tuple[tuple[int, int], list[int]],
    ) -> Callable[[], Iterable[Shaped[np.ndarray, "_ _"]]]:
        size, members = batch
        return start(np.stack([resize(images[place], *size) for place in members]))

    masks: dict[int, np.ndarray] = {}
    for (_, members), found in zip(batches, map_in_flight(start_batch, batches), strict=True):
        masks |= zip(members, found, strict=True)
    return [masks[place] for place in range(len(images))]
