"""Images whose redness is their mask, and a network that sees it."""

import numpy as np
from PIL import Image

from sempart_jax.predict.predictor import Predictor
from sempart_jax.predict.segmenter import Segmenter


class RedPredictor(Predictor):
    """A predictor whose mask is the red channel.

    Attributes:
        batches: shape of each batch that was begun.
        fetched: how many of them have been waited for, in their order.
        most_in_flight: most batches at a time that were begun and not yet waited for.
    """

    def __init__(self, batch_size=4, error=None, error_after=0):
        super().__init__(self._start, short_side=32, patch_size=8, batch_size=batch_size)
        self.batches = []
        self.fetched = self.most_in_flight = 0
        self._error, self._error_after = error, error_after

    def _start(self, inputs):
        if self._error is not None and len(self.batches) >= self._error_after:
            raise self._error
        place = len(self.batches)
        self.batches.append(inputs.shape)
        self.most_in_flight = max(self.most_in_flight, len(self.batches) - self.fetched)

        def fetch():
            assert self.fetched == place
            self.fetched += 1
            return inputs[..., 0].astype(np.float32) / 255

        return fetch


def red_segmenter(*, refine="none", invert="never", network="red", **options):
    """Make a segmenter that sees red."""
    return Segmenter(
        RedPredictor(**options), refine=refine, invert=invert, origin=lambda: {"network": network}
    )


def red_square(height, width, rows, columns):
    """Draw a red rectangle on blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 200
    image[slice(*rows), slice(*columns)] = (255, 40, 0)
    return image


def write_red(path, height=32, width=32, rows=(8, 24), columns=(8, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name may end in anything.
    with path.open("wb") as file:
        Image.fromarray(red_square(height, width, rows, columns)).save(file, "PNG")
    return path
