"""Masks of images of any size, by a network or a method that sees them in few shapes.

Each new shape is compiled anew, so an image is brought to the nearest of a few aspect ratios, those
that most photographs have. An image of another ratio is stretched on its way in, and its mask back.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from sempart_jax.data.image_sizes import resize

ASPECT_RATIOS = (1.0, 4 / 3, 3 / 2, 16 / 9)
"""Long side over short side; with portrait and landscape, seven shapes in all."""

Fetch = Callable[[], Float[np.ndarray, "B rows columns"]]
"""Waits for the masks of a batch, on pixels or on patches, and gives them."""

Fit = Callable[[Float[np.ndarray, "rows columns"], int, int], Float[np.ndarray, "H W"]]
"""Brings a predicted mask to the height and width of its image."""


def input_size(height: int, width: int, short_side: int, patch_size: int) -> tuple[int, int]:
    """Choose the height and width at which the network sees an image.

    Multiples of the patch, in the nearest of :data:`ASPECT_RATIOS`, with the wanted short side
    rounded to one.
    """
    aspect = math.log(max(height, width) / min(height, width))
    ratio = min(ASPECT_RATIOS, key=lambda candidate: abs(math.log(candidate) - aspect))
    short = max(1, round(short_side / patch_size)) * patch_size
    long = round(short * ratio / patch_size) * patch_size
    return (short, long) if width >= height else (long, short)


def input_shapes(short_side: int, patch_size: int) -> set[tuple[int, int]]:
    """Return all heights and widths at which a network sees images, see :func:`input_size`."""
    sides = [(720, round(720 * ratio)) for ratio in ASPECT_RATIOS]
    return {
        input_size(height, width, short_side, patch_size)
        for short, long in sides
        for height, width in ((short, long), (long, short))
    }


def pad_batch(images: Shaped[np.ndarray, "B h w 3"], size: int) -> Shaped[np.ndarray, "C h w 3"]:
    """Fill a batch up with zeros, so that a smaller one does not compile anew."""
    missing = size - len(images)
    return np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images


def stretch(
    mask: Float[np.ndarray, "rows columns"], height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """Bring a soft mask on pixels to the size of its image."""
    return np.clip(resize(mask, height, width), 0, 1)


class Predictor:
    """Predicts masks of images of any size.

    ``network_input``, ``start`` and ``fit`` are its three steps, for those who feed images in a
    stream; calling it takes them one after another, with two batches in flight.

    Attributes:
        start: begins to predict for uint8 inputs ``[B, h, w, 3]`` of one size, a batch of them at
            most, and returns what waits for their masks.
        fit: brings a mask to the height and width of its image.
        short_side: short side in pixels at which an image is seen, before it is rounded.
        batch_size: images that are processed together.
        numbered: whether its masks on patches hold the numbers of objects, from 1.
    """

    def __init__(
        self,
        start: Callable[[UInt8[np.ndarray, "B h w 3"]], Fetch],
        *,
        short_side: int,
        patch_size: int,
        batch_size: int,
        fit: Fit = stretch,
        numbered: bool = False,
    ) -> None:
        """Choose what predicts; ``patch_size`` is the side of its patches in pixels."""
        self.start, self.fit = start, fit
        self.short_side, self._patch_size = short_side, patch_size
        self.batch_size, self.numbered = batch_size, numbered

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width at which an image is seen, see :func:`input_size`."""
        return input_size(height, width, self.short_side, self._patch_size)

    def network_input(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Bring an image to the size at which it is seen."""
        return resize(image, *self.input_size(*image.shape[:2]))

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> list[Float[np.ndarray, "_ _"]]:
        """Predict a mask in [0, 1] of the size of each image, in their order.

        A batch of each size at a time: the next is resized while one is computed.
        """
        places: dict[tuple[int, int], list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(self.input_size(*image.shape[:2]), []).append(place)
        batches = [
            members[first : first + self.batch_size]
            for members in places.values()
            for first in range(0, len(members), self.batch_size)
        ]

        def start_batch(members: list[int]) -> Fetch:
            return self.start(np.stack([self.network_input(images[place]) for place in members]))

        masks: dict[int, np.ndarray] = {}
        found = map_in_flight(start_batch, batches)
        for members, predicted in zip(batches, found, strict=True):
            for place, mask in zip(members, predicted, strict=True):
                masks[place] = self.fit(mask, *images[place].shape[:2])
        return [masks[place] for place in range(len(images))]


Given = TypeVar("Given")
Result = TypeVar("Result")

IN_FLIGHT = 2
"""Batches that are begun and not yet fetched. A device that always has one more to go on with is
never idle; a third would only take memory."""


def map_in_flight(
    start: Callable[[Given], Callable[[], Result]], batches: Iterable[Given]
) -> Iterator[Result]:
    """Begin each batch, taken as late as can be, before the result of the last is waited for.

    Yields results in the order of ``batches``. ``start`` returns what waits for one.
    """
    begun: deque[Callable[[], Result]] = deque()
    for batch in batches:
        begun.append(start(batch))
        if len(begun) == IN_FLIGHT:
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()
