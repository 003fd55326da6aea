"""Baselines by name."""

import numpy as np
import pytest

from sempart_jax.baselines.deep_spectral import deep_spectral
from sempart_jax.baselines.lost import lost
from sempart_jax.baselines.methods import METHODS
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
    np.testing.assert_array_equal(METHODS[name](keys, images), function(keys, images)["mask"])
