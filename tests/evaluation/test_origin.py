"""Networks, methods and files as origins of masks."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from sempart_jax.evaluation.origin import (
    Failure,
    FramedImage,
    method_origin,
    network_origin,
    saved_origin,
)
from sempart_jax.evaluation.scoring import _with_masks
from sempart_jax.metrics.protocols import PROTOCOLS, Protocol
from sempart_jax.predict.load import load_method_segmenter
from tests.networks.test_porting import head_state
from tests.small_model import write_small_model

NATIVE = PROTOCOLS["native"]


def framed(name, image, protocol=NATIVE):
    return FramedImage(name, protocol.frame(image), image.shape[:2])


def ramp(height, width):
    """Red that rises from left to right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    return image


def noise(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


def test_masks_are_the_methods():
    images = noise((40, 50), (33, 33))
    origin = method_origin("tokencut", "handcrafted", resolution=48, batch_size=2)
    masks = origin.source([framed("", image) for image in images], NATIVE)
    predictor = load_method_segmenter(
        "tokencut", backbone="handcrafted", resolution=48, batch_size=2
    ).predictor
    for mask, expected in zip(masks, predictor(images), strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert origin.foreground_chosen
    assert origin.facts == {
        "masks": "tokencut",
        "backbone": "handcrafted",
        "short side seen by the network": "48 px",
    }


def test_priors_have_no_backbone_to_tell_of():
    images = noise((40, 50), (33, 33))
    origin = method_origin("priors", resolution=32)
    masks = origin.source([framed("", image) for image in images], NATIVE)
    predictor = load_method_segmenter("priors", resolution=32).predictor
    for mask, expected in zip(masks, predictor(images), strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert origin.foreground_chosen
    assert origin.facts == {"masks": "priors", "short side seen by the network": "32 px"}


def test_a_network_sees_images_as_it_is_told(tmp_path):
    write_small_model(tmp_path / "model.safetensors")
    masks = []
    for short_side, seen in ((None, 32), (32, 32), (48, 48)):
        origin = network_origin(tmp_path / "model.safetensors", resolution=short_side)
        assert origin.facts["short side seen by the network"] == f"{seen} px"
        masks += origin.source([framed("", *noise((60, 60)))], NATIVE)
    np.testing.assert_array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[1], masks[2])


def test_a_released_head_is_scored_over_the_backbone_that_is_named(tmp_path):
    for patch_size, stages in ((8, 3), (16, 4)):
        np.savez(tmp_path / f"head{patch_size}.npz", **head_state(channels=384, stages=stages))
    with pytest.raises(ValueError, match="dino_vits16 from ibot_vits16"):
        network_origin(tmp_path / "head16.npz")
    origin = network_origin(tmp_path / "head8.npz", backbone="handcrafted")
    assert origin.facts["backbone"] == "handcrafted, float32"


def test_saved_masks_are_found_by_name_and_keep_their_grey(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (6, 9)).astype(np.uint8)
    for name in ("a.b.png", "other.png"):
        Image.fromarray(grey).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    origin = saved_origin(tmp_path)
    assert origin.names == {"a.b", "other", "bad"}
    bad, mask = origin.source([framed("bad", ramp(4, 4)), framed("a.b", ramp(6, 9))], NATIVE)
    np.testing.assert_array_equal(mask, grey.astype(np.float32) / 255)
    assert isinstance(bad, Failure)
    assert "bad.png" in bad.reason
    Image.fromarray(grey).save(tmp_path / "other.jpg")
    with pytest.raises(ValueError, match=r"two masks for one image: .*other\.jpg and .*other\.png"):
        saved_origin(tmp_path)


def test_spellings_of_one_name_meet(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    Image.new("L", (9, 6), 255).save(tmp_path / f"{decomposed}.png")
    origin = saved_origin(tmp_path)
    for name in (composed, decomposed):
        assert list(_with_masks("own", [name], origin)) == [0]
        (mask,) = origin.source([framed(name, ramp(6, 9))], NATIVE)
        assert not isinstance(mask, Failure)


def test_a_mask_of_the_image_before_its_rotation_is_refused(tmp_path):
    Image.new("L", (6, 9), 255).save(tmp_path / "a.png")
    (failure,) = saved_origin(tmp_path).source([framed("a", ramp(6, 9))], NATIVE)
    assert isinstance(failure, Failure)
    assert "6x9 pixels and its image 9x6, which fit only before" in failure.reason
    assert "EXIF orientation" in failure.reason


def test_a_saved_mask_is_stretched_over_its_image_and_framed_as_it(tmp_path):
    halves = np.kron([[0, 255], [0, 255]], np.ones((8, 8))).astype(np.uint8)
    Image.fromarray(halves).save(tmp_path / "a.png")
    image = ramp(36, 60)
    Image.fromarray(image[..., 0]).save(tmp_path / "b.png")
    source = saved_origin(tmp_path).source
    (mask,) = source([framed("a", ramp(40, 60))], NATIVE)
    assert mask.shape == (40, 60)
    np.testing.assert_array_equal(mask[:, :26], 0)
    np.testing.assert_array_equal(mask[:, 34:], 1)
    crop = Protocol("crop", "none", resize_size=24, crop_size=20)
    item = framed("b", image, crop)
    (mask,) = source([item], crop)
    np.testing.assert_array_equal(mask, item.image[..., 0].astype(np.float32) / 255)


def test_a_photograph_is_no_prediction_of_its_own(tmp_path):
    grey = np.repeat(noise((8, 12))[0][..., :1], 3, axis=-1)
    Image.fromarray(grey[..., 0]).save(tmp_path / "a.png")
    crop = Protocol("crop", "none", resize_size=6, crop_size=6)
    for protocol in (NATIVE, crop):
        (failure,) = saved_origin(tmp_path).source([framed("a", grey, protocol)], protocol)
        assert isinstance(failure, Failure)
        assert "a.png is no mask of its image, but the image itself" in failure.reason


def test_saved_masks_without_foreground_are_refused(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    with pytest.raises(ValueError, match="none of the 2 masks that can be read has foreground"):
        saved_origin(tmp_path).source([framed("a", ramp(4, 4))], NATIVE)
