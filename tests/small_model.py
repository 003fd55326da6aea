"""A network that is quick to make: no weights but those of its head, drawn at random."""

import jax

from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.model_file import write_model
from sempart_jax.networks.trained import TrainedNetwork
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork


def small_network(*, dtype="float32"):
    network = HeadNetwork(HandcraftedBackbone(), SegmentationHead(patch_size=8), radius=4)
    variables = network.init(jax.random.key(3), {}, 32)
    return TrainedNetwork(network, {}, variables, 32, "handcrafted", dtype, "drawn")


def write_small_model(path):
    write_model(path, small_network())
    return path
