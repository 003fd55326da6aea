"""Bytes to [0, 1], and ImageNet normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.kernels.normalization import denormalize, from_bytes, normalize


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_every_byte_is_divided_as_on_the_host_to_the_last_bit(transform):
    image = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    values = transform(from_bytes)(jnp.asarray(image))
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, image.astype(np.float32) / 255)


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation():
    image = jnp.asarray([[[0.485, 0.456 + 0.224, 1.0]]])
    expected = [[[0.0, 1.0, (1 - 0.406) / 0.225]]]
    np.testing.assert_allclose(normalize(image), expected, atol=1e-6)


def test_denormalize_is_the_inverse():
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 3, 4, 3)), jnp.float32)
    np.testing.assert_allclose(denormalize(normalize(image)), image, atol=1e-6)
