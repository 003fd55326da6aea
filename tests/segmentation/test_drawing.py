"""Overlays and cut-outs."""

import numpy as np

from sempart_jax.segmentation.drawing import TINT, cutout, eight_bits, overlay

RNG = np.random.default_rng(0)


def test_masks_are_rounded():
    mask = np.array([[0, 0.001, 0.5, 0.998, 1]], np.float32)
    np.testing.assert_array_equal(eight_bits(mask), [[0, 0, 128, 254, 255]])


def test_cut_out_keeps_all_colours_and_the_soft_edge():
    image = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    mask = RNG.random((5, 7)).astype(np.float32)
    picture = cutout(image, mask)
    np.testing.assert_array_equal(picture[..., :3], image)
    np.testing.assert_array_equal(picture[..., 3], np.rint(mask * 255))


def test_overlay_tints_and_outlines_the_foreground():
    image = np.full((600, 500, 3), 100, np.uint8)
    before = image.copy()
    mask = np.zeros((600, 500), np.float32)
    # At the left border, over a border between bands.
    mask[200:400, :300] = 1
    picture = overlay(image, mask, mask > 0.5)
    np.testing.assert_array_equal(image, before)
    inside, outside = picture[300, 100].astype(int), picture[50, 50].astype(int)
    toward = np.sign(np.array(TINT) - 100)
    assert np.all((inside - 100) * toward > 10)
    assert outside[0] == outside[1] == outside[2] <= 100
    # The colour is even: nothing depends on the bands.
    assert len(np.unique(picture[210:390, 10:290].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(picture[:190].reshape(-1, 3), axis=0)) == 1
    # 600x500 has lines of two pixels: white inside the edge, a dark pixel around it.
    np.testing.assert_array_equal(picture[198:203, 100, 0], [outside[0], 26, 255, 255, inside[0]])
    np.testing.assert_array_equal(picture[300, 297:302, 1], [inside[1], 255, 255, 26, outside[1]])
    # None along the border.
    np.testing.assert_array_equal(picture[300, 0], inside)


def test_soft_masks_tint_by_degrees():
    image = np.full((4, 3, 3), 90, np.uint8)
    binary = np.zeros((4, 3), bool)
    reds = [
        int(overlay(image, np.full((4, 3), p, np.float32), binary)[0, 0, 0]) for p in (0, 0.5, 1)
    ]
    assert reds[0] < reds[1] < reds[2]
    # A pixel has an overlay.
    mask = np.ones((1, 1), np.float32)
    assert overlay(np.zeros((1, 1, 3), np.uint8), mask, mask > 0.5).shape == (1, 1, 3)
