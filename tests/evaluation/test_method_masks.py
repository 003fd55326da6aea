"""Baselines as a source of masks."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.evaluation.masks import FramedImage
from sempart_jax.evaluation.method_masks import MethodMasks
from sempart_jax.evaluation.origin import method_origin
from sempart_jax.evaluation.protocols import PROTOCOLS
from sempart_jax.models.handcrafted import HandcraftedBackbone
from sempart_jax.models.vit import VisionTransformer


def left_half_red(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    return FramedImage(f"{height}x{width}", image, (height, width))


def test_masks_are_those_of_the_grid_at_the_size_of_each_image():
    seen = []

    def reddest(features):
        seen.append((features.keys.shape[:3], features.image.shape))
        assert features.class_attention is None
        return features.image[..., 0] > 0.5

    source = MethodMasks(reddest, HandcraftedBackbone(), {}, short_side=32, batch_size=2)
    images = [left_half_red(*size) for size in ((64, 64), (30, 40), (32, 32), (128, 128))]
    masks = source(images, PROTOCOLS["native"])
    # Two batches of squares, the second filled up, and one of 4:3.
    assert seen == [
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 4), (2, 4, 4, 3)),
        ((2, 4, 5), (2, 4, 5, 3)),
    ]
    for framed, mask in zip(images, masks, strict=True):
        assert mask.dtype == np.float32
        assert mask.shape == framed.image.shape[:2]
        assert set(np.unique(mask)) == {0, 1}
    for index in (0, 2, 3):
        np.testing.assert_array_equal(masks[index], images[index].image[..., 0] > 0)


def test_identity_tells_methods_and_sizes_apart():
    origins = [
        method_origin("tokencut", "handcrafted"),
        method_origin("lost", "handcrafted"),
        method_origin("tokencut", "handcrafted", short_side=256),
    ]
    assert len({origin.identity for origin in origins}) == 3
    with pytest.raises(ValueError, match="unknown method 'move': choose one of tokencut, lost"):
        method_origin("move", "handcrafted")


def test_transformers_show_their_class_token():
    vit = VisionTransformer(patch_size=8, width=24, depth=1, num_heads=3)
    params = vit.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]

    def shape(features):
        assert features.class_attention.shape == (1, 3, 17)
        np.testing.assert_allclose(features.class_attention.sum(-1), 1, rtol=1e-5)
        return np.ones((1, 4, 4), bool)

    source = MethodMasks(shape, vit, params, short_side=32, batch_size=1)
    (mask,) = source([left_half_red(32, 32)], PROTOCOLS["native"])
    assert mask.all()


def test_decoder_is_for_found_alone():
    with pytest.raises(ValueError, match="lost has no decoder: leave it out"):
        method_origin("lost", "handcrafted", decoder=Path("decoder.pt"))
