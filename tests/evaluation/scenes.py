"""Images drawn for the purpose, whose red channel is the mask that :class:`RedMasks` predicts."""

import numpy as np
from PIL import Image

from sempart_jax.data.labelled import LabelledFolder
from sempart_jax.metrics.protocols import Protocol

WHOLE = Protocol("whole", "image")


def rectangle(top, left, height, width, size=20):
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def write_pair(folder, name, prediction, truth):
    """Write an image whose red is what will be predicted, and its ground truth."""
    image = np.zeros((*prediction.shape, 3), np.uint8)
    image[..., 0] = np.rint(255 * prediction)
    paths = folder / f"{name}.png", folder / f"{name}_mask.png"
    Image.fromarray(image).save(paths[0])
    Image.fromarray(truth.astype(np.uint8) * 255).save(paths[1])
    return paths


class RedMasks:
    """A source of masks that counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, images, protocol):
        self.asked += [framed.name for framed in images]
        return [framed.image[..., 0].astype(np.float32) / 255 for framed in images]


def labelled(*pairs, published_images=None):
    return LabelledFolder(pairs, published_images)
