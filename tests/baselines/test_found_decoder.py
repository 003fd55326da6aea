"""FOUND's decoder as a network: golden logits, enlargement, first values, exchange of weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.found import decoder_logits
from sempart_jax.baselines.found_decoder import FoundDecoder, decoder_weights
from sempart_jax.networks.released import read_found_decoder
from tests.conftest import REFERENCE


def draw(width=384):
    rng = np.random.default_rng(0)
    keys = jnp.asarray(rng.normal(size=(2, 3, 4, width)), jnp.float32)
    return keys, rng.normal(size=width).astype(np.float32), 0.25


def decoder_params(kernel, bias):
    projection = {"kernel": jnp.asarray(kernel)[:, None], "bias": jnp.full(1, bias, jnp.float32)}
    return {"params": {"projection": projection}}


def test_golden(golden):
    pytest.importorskip("torch")
    path = REFERENCE / "weights/found_decoder_weights.pt"
    if not path.exists():
        pytest.skip(f"released decoder not found: {path}")
    values = golden("baselines")
    variables = decoder_params(*read_found_decoder(path))
    image = jnp.zeros((len(values["keys"]), 18 * 8, 24 * 8, 3))
    logits = FoundDecoder(8).apply(variables, jnp.asarray(values["keys"]), image)
    np.testing.assert_allclose(
        logits["coarse"][..., 0], values["found_decoder_logits"], rtol=1e-4, atol=1e-4
    )


def test_coarse_logits_are_those_of_the_baseline():
    keys, kernel, bias = draw()
    image = jnp.zeros((2, 12, 16, 3))
    logits = FoundDecoder(4).apply(decoder_params(kernel, bias), keys, image)
    np.testing.assert_allclose(
        logits["coarse"][..., 0],
        decoder_logits(np.asarray(keys), kernel, bias),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("train", [False, True])
def test_fine_logits_are_the_coarse_enlarged(train):
    keys, kernel, bias = draw(8)
    image = jax.random.normal(jax.random.key(1), (2, 24, 32, 3))
    logits = FoundDecoder(8).apply(decoder_params(kernel, bias), keys, image, train=train)
    coarse = np.asarray(logits["coarse"], np.float64)[..., 0]
    # Interpolation between pixel centres, clamped at the border
    rows, columns = ((np.arange(8 * n) + 0.5) / 8 - 0.5 for n in (3, 4))
    by_rows = np.apply_along_axis(lambda x: np.interp(rows, np.arange(3), x), 1, coarse)
    expected = np.apply_along_axis(lambda x: np.interp(columns, np.arange(4), x), 2, by_rows)
    assert logits["fine"].dtype == jnp.float32
    np.testing.assert_allclose(logits["fine"][..., 0], expected, atol=1e-5)


def test_first_values_are_uniform_within_the_bound():
    keys, _, _ = draw()
    image = jnp.zeros((2, 24, 32, 3))
    projections = [
        FoundDecoder(8).init(jax.random.key(seed), keys, image)["params"]["projection"]
        for seed in range(20)
    ]
    bound = 384**-0.5
    kernels = np.stack([np.asarray(each["kernel"]) for each in projections])
    biases = np.stack([np.asarray(each["bias"]) for each in projections])
    assert kernels.shape == (20, 384, 1)
    assert biases.shape == (20, 1)
    for values in (kernels, biases):
        assert 0.8 * bound < np.abs(values).max() <= bound
        assert values.min() < 0 < values.max()
    # A uniform distribution on [-b, b] has deviation b / sqrt(3).
    np.testing.assert_allclose(kernels.std(), bound / 3**0.5, rtol=0.03)


def test_weights_go_in_and_out():
    keys, kernel, bias = draw()
    variables = decoder_params(kernel, bias)
    first = FoundDecoder(8).init(jax.random.key(0), keys, jnp.zeros((2, 24, 32, 3)))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, first)
    kernel_again, bias_again = decoder_weights(variables)
    np.testing.assert_array_equal(kernel_again, kernel)
    assert bias_again == bias
    assert kernel_again.dtype == np.float32


@pytest.mark.usefixtures("unchecked_shapes")
def test_an_image_of_another_size_is_refused():
    keys, kernel, bias = draw()
    with pytest.raises(ValueError, match="3x4 patches of 8 belong to an image of 24x32"):
        FoundDecoder(8).apply(decoder_params(kernel, bias), keys, jnp.zeros((2, 24, 24, 3)))
