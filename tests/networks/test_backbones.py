"""Backbones by name."""

import logging

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sempart_jax.networks import backbones as backbone
from sempart_jax.networks import names
from sempart_jax.networks.backbones import load_backbone
from sempart_jax.networks.handcrafted import HandcraftedBackbone
from sempart_jax.networks.names import Architecture
from sempart_jax.networks.porting import port_vit
from sempart_jax.two_tricks.vit import VisionTransformer
from tests.two_tricks import dino_reference

SMALL = Architecture(patch_size=8, width=12, depth=1, num_heads=2)


@pytest.fixture
def small(monkeypatch):
    """A small backbone by the name of a large one."""
    monkeypatch.setitem(names.BACKBONES, "dino_vits8", SMALL)


@pytest.fixture
def state_dict():
    return dino_reference.seeded_state_dict(patch_size=8, width=12, depth=1, grid=3)


def test_handcrafted_has_no_parameters():
    module, params = load_backbone("handcrafted")
    assert module == HandcraftedBackbone()
    assert params == {}


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"weights": "a.npz"}, r"leave out 'a\.npz', .*--config\.backbone\.weights .* --weights"),
        ({"dtype": "bfloat16"}, r"leave backbone\.dtype at float32"),
    ],
)
def test_handcrafted_takes_neither_weights_nor_another_type(arguments, advice):
    with pytest.raises(ValueError, match=advice):
        load_backbone("handcrafted", **arguments)


@pytest.mark.parametrize("weights", ["", "random"])
def test_unknown_name_is_refused_with_the_known_ones(weights):
    known = r"'dino_vits7': .*dino_vits8, .*ibot_vits16, .*handcrafted"
    with pytest.raises(ValueError, match=known):
        load_backbone("dino_vits7", weights)


def test_weights_of_a_file_are_loaded(small, state_dict, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    np.savez(tmp_path / "weights.npz", **state_dict)
    module, params = load_backbone("dino_vits8", str(tmp_path / "weights.npz"))
    assert module == VisionTransformer(patch_size=8, width=12, depth=1, num_heads=2)
    jax.tree.map(np.testing.assert_array_equal, params, port_vit(state_dict))


def test_weights_are_downloaded_where_no_file_is_given(small, state_dict, tmp_path, monkeypatch):
    path = tmp_path / "downloaded.npz"
    np.savez(path, **state_dict)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **kwargs: str(path))
    _, params = load_backbone("dino_vits8")
    jax.tree.map(np.testing.assert_array_equal, params, port_vit(state_dict))


def test_missing_file_is_an_error(small, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_backbone("dino_vits8", str(tmp_path / "absent.npz"))


class OneWeight(nn.Module):
    """The least that has weights to draw."""

    patch_size: int = 4

    @nn.compact
    def __call__(self, image):
        return self.param("weight", nn.initializers.normal(), image.shape)


def test_random_weights_are_the_same_each_time(monkeypatch):
    monkeypatch.setattr(backbone, "create_backbone", lambda name, dtype: OneWeight())
    weights = [load_backbone("dino_vits8", "random")[1]["weight"] for _ in range(2)]
    assert weights[0].shape == (1, 4, 4, 3)
    assert np.std(weights[0]) > 0
    np.testing.assert_array_equal(*weights)


def test_random_weights_fit_the_module(small, caplog):
    with caplog.at_level(logging.WARNING, logger="absl"):
        module, params = load_backbone("dino_vits8", "random")
    assert "dino_vits8 has random weights" in caplog.text
    assert params["position_embedding"].shape == (1, 1 + 28**2, 12)
    out = jax.eval_shape(module.apply, {"params": params}, np.zeros((1, 16, 24, 3), np.float32))
    assert out["keys"].shape == (1, 2, 3, 12)


def test_dtype_is_that_of_the_products_alone(small, state_dict, tmp_path):
    np.savez(tmp_path / "weights.npz", **state_dict)
    module, params = load_backbone("dino_vits8", str(tmp_path / "weights.npz"), "bfloat16")
    assert module.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
