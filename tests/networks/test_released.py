"""Which network released weights are of."""

import numpy as np
import pytest

from sempart_jax.networks.names import BACKBONES
from sempart_jax.networks.porting import port_backbone, port_head
from sempart_jax.networks.pretrained import create_backbone
from sempart_jax.networks.released import (
    describe_vit,
    head_shape,
    infer_backbone,
    is_of,
    read_found_decoder,
)
from tests.networks.test_porting import head_state
from tests.two_tricks import dino_reference


@pytest.mark.parametrize(("channels", "stages"), [(384, 3), (384, 4), (768, 2)])
def test_shape_of_a_head(channels, stages):
    assert head_shape(port_head(head_state(channels, stages))) == (2**stages, channels)


@pytest.mark.parametrize(("patch_size", "width", "depth"), [(8, 12, 1), (4, 24, 3)])
def test_shape_of_a_vision_transformer(patch_size, width, depth):
    state = dino_reference.seeded_state_dict(patch_size, width, depth, grid=2)
    module, _ = port_backbone(state, num_heads=1)
    assert describe_vit(module) == f"patch size {patch_size}, width {width} and depth {depth}"
    assert not any(is_of(module, known) for known in BACKBONES.values())


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((8, 384), "dino_vits8"),
        ((8, 768), "dino_vitb8"),
        ((16, 768), "dino_vitb16"),
    ],
)
def test_backbones_that_heads_tell(shape, name):
    assert infer_backbone(*shape) == name


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_that_modules_tell(name):
    module = create_backbone(name)
    if name in ("dino_vits16", "ibot_vits16"):
        with pytest.raises(ValueError, match="do not tell dino_vits16 from ibot_vits16"):
            infer_backbone(module.patch_size, module.width, module)
    else:
        assert infer_backbone(module.patch_size, module.width, module) == name


def test_backbones_that_tensors_do_not_tell():
    with pytest.raises(
        ValueError,
        match="do not tell dino_vits16 from ibot_vits16, which have patch size 16 and width 384: "
        "name the backbone",
    ):
        infer_backbone(16, 384)
    for shape in ((14, 384), (8, 96)):
        with pytest.raises(ValueError, match=r"there is no backbone of patch size .* among dino_"):
            infer_backbone(*shape)


def test_decoder_of_found(tmp_path):
    kernel = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1)
    path = tmp_path / "decoder.npz"
    np.savez(path, **{"decoder.weight": kernel, "decoder.bias": np.ones(1, np.float32)})
    read, bias = read_found_decoder(path)
    np.testing.assert_array_equal(read, np.arange(5))
    assert bias == 1.0


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"decoder.weight": np.ones((1, 5, 1, 1))}, "no decoder of FOUND"),
        ({"decoder.weight": np.ones((2, 5, 1, 1)), "decoder.bias": np.ones(1)}, "no decoder of"),
        ({"decoder.weight": np.ones((1, 5, 1, 1)), "decoder.bias": [np.nan]}, "not finite"),
    ],
)
def test_other_tensors_are_no_decoder(tmp_path, tensors, message):
    path = tmp_path / "decoder.npz"
    np.savez(path, **{name: np.asarray(array, np.float32) for name, array in tensors.items()})
    with pytest.raises(ValueError, match=message):
        read_found_decoder(path)
