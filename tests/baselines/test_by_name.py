"""Baselines by name."""

import numpy as np
import pytest
import scipy.ndimage

from sempart_jax.baselines.by_name import MASKCUT, METHODS, Features
from sempart_jax.baselines.deep_spectral import deep_spectral
from sempart_jax.baselines.found import background_mask
from sempart_jax.baselines.lost import lost
from sempart_jax.baselines.tokencut import tokencut


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("tokencut", lambda keys, images: tokencut(keys, tau=0.2, eps=1e-5)),
        ("lost", lambda keys, images: lost(keys, k=100)),
        ("deep_spectral", lambda keys, images: deep_spectral(keys, images, 10.0)),
    ],
)
def test_methods_have_their_authors_settings(name, function):
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(2, 12, 12, 6)).astype(np.float32)
    images = rng.random((2, 12, 12, 3)).astype(np.float32)
    masks = METHODS[name](Features(keys, images))
    np.testing.assert_array_equal(masks, function(keys, images)["mask"])


def test_maskcut_numbers_its_objects():
    keys = np.zeros((1, 6, 8, 3), np.float32)
    keys[..., 0] = 1
    keys[0, 1:3, 1:3], keys[0, 3:6, 5:7] = np.eye(3)[1], np.eye(3)[2]
    objects = METHODS[MASKCUT](Features(keys, keys))
    assert set(np.unique(objects)) == {0, 1, 2}


def draw_found():
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(2, 9, 9, 6)).astype(np.float32)
    attention = rng.dirichlet(np.ones(82), (2, 3)).astype(np.float32)
    return keys, np.zeros((2, 9, 9, 3), np.float32), attention


def test_found_without_decoder_is_what_is_not_background():
    keys, image, attention = draw_found()
    features = Features(keys, image, attention)
    multi = METHODS["found_multi"](features)
    np.testing.assert_array_equal(multi, ~np.asarray(background_mask(keys, attention)))
    single = METHODS["found_single"](features)
    assert (single <= multi).all()
    for mask in single:
        assert scipy.ndimage.label(mask)[1] == 1


def test_found_with_decoder_is_its_sign():
    keys, image, _ = draw_found()
    kernel = np.arange(6, dtype=np.float32) - 2
    masks = METHODS["found_multi"](Features(keys, image, decoder=(kernel, -0.5)))
    np.testing.assert_array_equal(masks, keys @ kernel - 0.5 > 0)


def test_found_needs_a_class_token():
    keys, image, _ = draw_found()
    with pytest.raises(ValueError, match="no class token: take a vision transformer"):
        METHODS["found_single"](Features(keys, image))
