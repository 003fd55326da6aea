"""Masks of a network and of files, for images of all sizes."""

import numpy as np
import pytest
from PIL import Image

from sempart_jax.evaluation.masks import Failure, FramedImage, NetworkMasks, SavedMasks
from sempart_jax.metrics.protocols import PROTOCOLS, Protocol

NATIVE = PROTOCOLS["native"]


def ramp(height, width):
    """Red that rises from left to right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    return image


def framed(name, image):
    return FramedImage(name, image, image.shape[:2])


def test_network_is_given_what_the_protocol_looks_at():
    source = NetworkMasks(lambda images: [image[..., 0] / np.float32(255) for image in images])
    masks = source([framed("a", ramp(4, 6)), framed("b", ramp(3, 3))], NATIVE)
    assert [mask.shape for mask in masks] == [(4, 6), (3, 3)]
    np.testing.assert_array_equal(masks[0], ramp(4, 6)[..., 0].astype(np.float32) / 255)


def write_mask(folder, name, grey):
    Image.fromarray(grey).save(folder / name)


def test_saved_masks_are_found_by_name_and_keep_their_grey(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (6, 9)).astype(np.uint8)
    write_mask(tmp_path, "a.b.png", grey)
    write_mask(tmp_path, "other.png", grey)
    source = SavedMasks(tmp_path)
    assert set(source.paths) == {"a.b", "other"}
    (mask,) = source([framed("a.b", ramp(6, 9))], NATIVE)
    np.testing.assert_array_equal(mask, grey.astype(np.float32) / 255)


def test_saved_mask_of_another_size_is_stretched_over_the_whole_image(tmp_path):
    write_mask(tmp_path, "a.png", np.kron([[0, 255], [0, 255]], np.ones((8, 8))).astype(np.uint8))
    (mask,) = SavedMasks(tmp_path)([framed("a", ramp(40, 60))], NATIVE)
    assert mask.shape == (40, 60)
    np.testing.assert_array_equal(mask[:, :26], 0)
    np.testing.assert_array_equal(mask[:, 34:], 1)


def test_saved_mask_is_framed_as_its_image(tmp_path):
    crop = Protocol("crop", "none", resize_size=24, crop_size=20)
    image = ramp(36, 60)
    write_mask(tmp_path, "a.png", image[..., 0])
    item = FramedImage("a", crop.frame(image), image.shape[:2])
    (mask,) = SavedMasks(tmp_path)([item], crop)
    np.testing.assert_array_equal(mask, item.image[..., 0].astype(np.float32) / 255)


def test_unreadable_saved_mask_is_a_failure_of_its_own(tmp_path):
    write_mask(tmp_path, "good.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    bad, good = SavedMasks(tmp_path)(
        [framed("bad", ramp(4, 4)), framed("good", ramp(4, 4))], NATIVE
    )
    assert isinstance(bad, Failure)
    assert "bad.png" in bad.reason
    assert good.shape == (4, 4)


def test_two_masks_of_one_name_are_refused(tmp_path):
    write_mask(tmp_path, "a.png", np.zeros((4, 4), np.uint8))
    write_mask(tmp_path, "a.jpg", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"two masks for one image: .*a\.jpg and .*a\.png"):
        SavedMasks(tmp_path)
