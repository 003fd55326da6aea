"""Images whose redness is their mask, and a network that sees it."""

import numpy as np
from PIL import Image

from sempart_jax.data.image_sizes import resize
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.predict.input_size import input_size
from sempart_jax.predict.load import TrainedNetwork
from sempart_jax.predict.predictor import AnySizePredictor
from sempart_jax.predict.segmenter import ImageSegmenter
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork


class RedPredictor:
    """Stands in for ``AnySizePredictor``: the mask is the red channel.

    Attributes:
        batches: shape of each batch that was begun.
        fetched: how many of them have been waited for, in their order.
        most_in_flight: most batches at a time that were begun and not yet waited for.
    """

    def __init__(self, batch_size=4, error=None, error_after=0):
        self.batch_size = batch_size
        self.batches = []
        self.fetched = self.most_in_flight = 0
        self._error, self._error_after = error, error_after

    def network_input(self, image):
        return resize(image, *input_size(*image.shape[:2], 32, 8))

    def start(self, inputs):
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

    fit = staticmethod(AnySizePredictor.fit)

    def __call__(self, images):
        inputs = [self.network_input(image)[None] for image in images]
        masks = [self.start(each)()[0] for each in inputs]
        return [self.fit(mask, *image.shape[:2]) for image, mask in zip(images, masks, strict=True)]


def red_segmenter(*, refine="none", invert="never", **options):
    """Make an ImageSegmenter that sees red; its network is never asked."""
    segmenter = HeadNetwork(HandcraftedBackbone(), SegmentationHead(patch_size=8))
    variables = {"params": {"w": np.zeros(2, np.float32)}, "batch_stats": {}}
    network = TrainedNetwork(segmenter, {}, variables, 32, "handcrafted", "float32", "drawn")
    made = ImageSegmenter(network, refine=refine, invert=invert)
    made.predictor = RedPredictor(**options)
    return made


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
