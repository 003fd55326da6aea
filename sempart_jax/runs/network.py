"""From a configuration to the network of a run, for those who train it and those who use it."""

from ml_collections import ConfigDict

from sempart_jax.networks.by_name import create_network, load_frozen
from sempart_jax.networks.names import HANDCRAFTED, NO_BACKBONE, SELFMASK, SEMPART
from sempart_jax.two_tricks.interfaces import MaskNetwork, Variables
from sempart_jax.two_tricks.train_step import DEVICE_AXIS


def build_network(config: ConfigDict) -> tuple[MaskNetwork, Variables]:
    """Build a network; loads, and if need be downloads, the weights of a frozen backbone."""
    if config.network != SEMPART and config.backbone.name == HANDCRAFTED:
        raise ValueError(
            f"config.network={config.network} needs a vision transformer, which the handcrafted "
            "backbone is not: choose another config.backbone.name"
        )
    backbone, frozen_params = load_frozen(
        config.network,
        config.backbone.name,
        config.backbone.weights,
        config.backbone.dtype,
        features=config.backbone.features,
        position_directions=config.backbone.position_directions,
    )
    if config.network == SELFMASK and backbone is not None:
        backbone = backbone.clone(remat=config.selfmask.remat)
    network = create_network(
        config.network,
        backbone,
        radius=config.guided_filter.radius,
        filter_eps=config.guided_filter.eps,
        axis_name=DEVICE_AXIS,
        queries=config.selfmask.queries,
        decoder_layers=config.selfmask.decoder_layers,
        head_dtype=config.head.dtype,
        head_channels=config.head.channels,
        unet_channels=config.unet.channels,
    )
    patch_size = network.patch_size
    if config.data.image_size % patch_size:
        named = config.network if config.backbone.name == NO_BACKBONE else config.backbone.name
        nearest = max(1, round(config.data.image_size / patch_size)) * patch_size
        raise ValueError(
            f"config.data.image_size must be a multiple of the patch of {named}, {patch_size}, "
            f"got {config.data.image_size}: take {nearest}"
        )
    return network, frozen_params
