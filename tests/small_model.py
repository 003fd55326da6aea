"""A network that is quick to make: no weights but those of its head, drawn at random."""

import jax

from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.model_file import write_model
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.segmenter import Segmenter


def small_network(*, dtype="float32"):
    segmenter = Segmenter(HandcraftedBackbone(), SegmentationHead(patch_size=8), radius=4)
    variables = segmenter.init(jax.random.key(3), {}, 32)
    return TrainedNetwork(segmenter, {}, variables, 32, "handcrafted", dtype, "drawn")


def write_small_model(path):
    write_model(path, small_network())
    return path
