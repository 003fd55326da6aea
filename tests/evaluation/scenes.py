"""Images drawn for the purpose, whose red channel is the mask that is predicted of them."""

import numpy as np
from PIL import Image

from sempart_jax.data.labelled import LabelledFolder
from sempart_jax.evaluation.origin import Origin
from sempart_jax.evaluation.scoring import Scorer
from sempart_jax.evaluation.sections import saliency_section
from sempart_jax.metrics.protocols import Protocol

WHOLE = Protocol("whole", "image")


def rectangle(top, left, height, width, size=20):
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def write_red(path, mask):
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[..., 0] = np.rint(255 * mask)
    Image.fromarray(image).save(path)
    return path


def write_pair(folder, name, prediction, truth):
    """Write an image whose red is what will be predicted, and its ground truth."""
    Image.fromarray(truth.astype(np.uint8) * 255).save(folder / f"{name}_mask.png")
    return write_red(folder / f"{name}.png", prediction), folder / f"{name}_mask.png"


def red_masks(images, protocol=WHOLE):
    return [framed.image[..., 0].astype(np.float32) / 255 for framed in images]


def red(**fields):
    return Origin(**{"source": red_masks, "facts": {}, **fields})


def labelled(*pairs, published_images=None):
    return LabelledFolder(pairs, published_images)


def score_red(pairs, *postprocessings, protocol=WHOLE, origin=None, scorer=None, rule=None):
    """Return the section of pairs of files, and what scored them."""
    scorer = scorer or Scorer(postprocessings or ("none",), rule)
    return saliency_section(scorer, "set", labelled(*pairs), origin or red(), protocol), scorer
