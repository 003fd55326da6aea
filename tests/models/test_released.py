"""Which network released weights are of."""

import pytest

from sempart_jax.models.porting import port_head, port_vit
from sempart_jax.models.released import head_shape, infer_backbone, vit_shape
from tests.models import dino_reference
from tests.models.test_porting import head_state


@pytest.mark.parametrize(("channels", "stages"), [(384, 3), (384, 4), (768, 2)])
def test_shape_of_a_head(channels, stages):
    assert head_shape(port_head(head_state(channels, stages))) == (2**stages, channels)


@pytest.mark.parametrize(("patch_size", "width", "depth"), [(8, 12, 1), (4, 24, 3)])
def test_shape_of_a_vision_transformer(patch_size, width, depth):
    state = dino_reference.seeded_state_dict(patch_size, width, depth, grid=2)
    assert vit_shape(port_vit(state)) == (patch_size, width, depth)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((8, 384, 12), "dino_vits8"),
        ((8, 384), "dino_vits8"),
        ((8, 768, 12), "dino_vitb8"),
        ((16, 768), "dino_vitb16"),
    ],
)
def test_backbones_that_tensors_tell(shape, name):
    assert infer_backbone(*shape) == name


def test_backbones_that_tensors_do_not_tell():
    with pytest.raises(
        ValueError,
        match="do not tell dino_vits16 from ibot_vits16, which have patch size 16 and width 384: "
        "name the backbone",
    ):
        infer_backbone(16, 384)
    for shape in ((8, 384, 6), (14, 384), (8, 192)):
        with pytest.raises(ValueError, match=r"there is no backbone of patch size .* among dino_"):
            infer_backbone(*shape)
