"""Networks and methods as origins of masks."""

import numpy as np
import pytest

from sempart_jax.evaluation.masks import FramedImage
from sempart_jax.evaluation.origin import method_origin, network_origin
from sempart_jax.metrics.protocols import PROTOCOLS
from sempart_jax.predict.load import load_method_segmenter
from tests.networks.test_porting import head_state
from tests.small_model import write_small_model


def test_masks_are_the_methods():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((40, 50), (33, 33))]
    framed = [FramedImage(str(i), image, image.shape[:2]) for i, image in enumerate(images)]
    origin = method_origin("tokencut", "handcrafted", short_side=48, batch_size=2)
    masks = origin.source(framed, PROTOCOLS["native"])
    predictor = load_method_segmenter(
        "tokencut", backbone="handcrafted", resolution=48, batch_size=2
    ).predictor
    for mask, expected in zip(masks, predictor(images), strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert origin.facts == {
        "masks": "tokencut",
        "backbone": "handcrafted",
        "short side seen by the network": "48 px",
    }


def test_a_network_sees_images_as_it_is_told(tmp_path):
    write_small_model(tmp_path / "model.safetensors")
    pixel = np.zeros((1, 1, 3), np.uint8)
    for short_side, seen in ((None, 32), (32, 32), (48, 48)):
        origin = network_origin(tmp_path / "model.safetensors", short_side=short_side)
        assert origin.source._predictor.network_input(pixel).shape[0] == seen
        assert origin.facts["short side seen by the network"] == f"{seen} px"


def test_a_released_head_is_scored_over_the_backbone_that_is_named(tmp_path):
    for patch_size, stages in ((8, 3), (16, 4)):
        np.savez(tmp_path / f"head{patch_size}.npz", **head_state(channels=384, stages=stages))
    with pytest.raises(ValueError, match="dino_vits16 from ibot_vits16"):
        network_origin(tmp_path / "head16.npz")
    origin = network_origin(tmp_path / "head8.npz", backbone="handcrafted")
    assert origin.facts["backbone"] == "handcrafted, float32"
