"""The networks that are trained here, by name."""

import jax.numpy as jnp
import pytest

from sempart_jax.baselines.found import FoundDecoder
from sempart_jax.baselines.maskformer import MaskFormer
from sempart_jax.baselines.unet import UNet
from sempart_jax.networks.backbones import backbone_module
from sempart_jax.networks.by_name import create_network, load_frozen, name_network
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.names import NETWORKS
from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.vit import VisionTransformer

VIT = VisionTransformer(patch_size=4, width=16, depth=1, num_heads=2)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_called_as_it_was_made(name):
    backbone = None if name == "unet" else VIT
    network = create_network(name, backbone, radius=3, filter_eps=0.1)
    assert name_network(network) == name
    patch_size = 16 if name == "unet" else 4
    assert (network.patch_size, network.radius, network.filter_eps) == (patch_size, 3, 0.1)


def test_each_has_its_parts():
    sempart = create_network("sempart", VIT, axis_name="device")
    assert sempart.head == SegmentationHead(4, "device")
    assert create_network("found", VIT).head == FoundDecoder(4)
    half = create_network("sempart", VIT, head_dtype="bfloat16")
    assert half.head.dtype == jnp.bfloat16
    selfmask = create_network("selfmask", VIT, queries=7, decoder_layers=2)
    assert selfmask.mask_former == MaskFormer(VIT, num_queries=7, num_layers=2)
    unet = create_network("unet", None, axis_name="device", unet_channels=4)
    assert unet.unet == UNet(4, "device")


def test_errors():
    with pytest.raises(ValueError, match="unknown network 'resnet': choose one of sempart"):
        create_network("resnet", VIT)
    with pytest.raises(ValueError, match="unet has no backbone, got VisionTransformer"):
        create_network("unet", VIT)
    with pytest.raises(ValueError, match="sempart needs a backbone, got NoneType"):
        create_network("sempart", None)
    with pytest.raises(ValueError, match="selfmask trains a vision transformer"):
        create_network("selfmask", HandcraftedBackbone())
    for name in ("found", "selfmask", "unet"):
        with pytest.raises(ValueError, match=f"{name} computes in float32 beside its backbone"):
            create_network(name, VIT, head_dtype="bfloat16")


def test_a_backbone_that_is_trained_has_no_frozen_parameters():
    module, params = load_frozen("selfmask", "vit_tiny8", "/no/file", "bfloat16")
    assert module == backbone_module("vit_tiny8", "bfloat16")
    assert module.dtype == jnp.bfloat16
    assert params == {}
    assert "block_0" in load_frozen("found", "vit_tiny16", "random")[1]


def test_without_a_backbone_there_is_nothing_to_load():
    assert load_frozen("unet", "none") == (None, {})
    for backbone, weights, named in (("none", "w.npz", "w.npz"), ("vit_tiny8", "", "vit_tiny8")):
        with pytest.raises(ValueError, match=f"unet has no backbone: leave out {named}"):
            load_frozen("unet", backbone, weights)
    with pytest.raises(ValueError, match="unknown backbone 'none'"):
        load_frozen("sempart", "none")
