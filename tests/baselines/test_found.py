"""FOUND's background against the authors' code and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.baselines.found import (
    FoundDecoder,
    background_mask,
    decoder_logits,
    decoder_weights,
)
from tests.baselines.references import photographs, seeded_vit_features


def reference(keys, attention, tau):
    height, width, channels = keys.shape
    heads = len(attention)
    attention = attention[:, 1:].astype(np.float64)
    share = (attention > attention.mean()).mean(axis=1)
    weight = np.log((share + 1e-10).sum() / (share + 1e-10))
    flat = keys.reshape(height * width, heads, channels // heads) * weight[:, None]
    flat = flat.reshape(height * width, channels).astype(np.float64)
    patch = (attention * weight[:, None]).sum(axis=0).argmin()
    cosine = flat @ flat[patch] / np.linalg.norm(flat, axis=1) / np.linalg.norm(flat[patch])
    return (cosine > tau).reshape(height, width)


def draw(seed, heads=3, shape=(5, 6, 12)):
    rng = np.random.default_rng(seed)
    attention = rng.dirichlet(np.full(1 + shape[0] * shape[1], 0.3), heads)
    return rng.normal(size=shape).astype(np.float32), attention.astype(np.float32)


def test_golden(golden):
    values = golden("baselines")
    ours = np.asarray(background_mask(values["keys"], values["class_attention"]))
    for each, theirs in zip(ours, values["found_background"], strict=True):
        assert (each == theirs).mean() >= 0.995


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.6])
def test_random_keys(tau):
    pairs = [draw(seed) for seed in range(4)]
    keys, attention = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    ours = np.asarray(background_mask(keys, attention, tau))
    for mask, (key, heads) in zip(ours, pairs, strict=True):
        np.testing.assert_array_equal(mask, reference(key, heads, tau))


def test_real_photographs(reference_data):
    features = seeded_vit_features(photographs(reference_data, 4, 96))
    keys = features["keys"] - features["keys"].mean(axis=(1, 2), keepdims=True)
    ours = np.asarray(background_mask(keys, features["class_attention"]))
    for mask, key, heads in zip(ours, keys, features["class_attention"], strict=True):
        expected = reference(key, heads, 0.3)
        assert 0.05 < expected.mean() < 0.95
        assert (mask == expected).mean() >= 0.995


def test_degenerate_inputs_give_a_mask():
    for keys, attention in (
        (np.ones((1, 4, 4, 6)), np.full((1, 2, 17), 1 / 17)),
        (np.zeros((1, 4, 4, 6)), np.zeros((1, 2, 17))),
        (np.ones((1, 1, 1, 6)), np.ones((1, 2, 2))),
    ):
        mask = background_mask(keys.astype(np.float32), attention.astype(np.float32))
        assert mask.shape == keys.shape[:3]
        assert mask.dtype == bool


@pytest.mark.usefixtures("unchecked_shapes")
def test_arrays_of_other_grids_are_refused():
    keys, attention = draw(0)
    with pytest.raises(ValueError, match="must be of one grid"):
        background_mask(keys[None], attention[None, :, :-1])
    with pytest.raises(ValueError, match="heads that divide D"):
        background_mask(keys[None, ..., :11], attention[None])


def test_decoder_is_a_convolution_of_one_pixel():
    keys, _ = draw(0)
    kernel = np.random.default_rng(1).normal(size=12).astype(np.float32)
    expected = np.einsum("hwd,d->hw", keys.astype(np.float64), kernel) + 0.5
    logits = decoder_logits(keys[None], kernel, 0.5)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[0], expected, atol=1e-5)


def draw_keys(width=384):
    rng = np.random.default_rng(0)
    keys = jnp.asarray(rng.normal(size=(2, 3, 4, width)), jnp.float32)
    return keys, rng.normal(size=width).astype(np.float32), 0.25


def decoder_params(kernel, bias):
    projection = {"kernel": jnp.asarray(kernel)[:, None], "bias": jnp.full(1, bias, jnp.float32)}
    return {"params": {"projection": projection}}


def test_golden_decoder(golden):
    values = golden("baselines")
    decoder = values["found_decoder_kernel"], float(values["found_decoder_bias"][0])
    expected = values["found_decoder_logits"]
    logits = decoder_logits(values["keys"], *decoder)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    image = jnp.zeros((len(values["keys"]), 18 * 8, 24 * 8, 3))
    keys = jnp.asarray(values["keys"])
    logits = FoundDecoder(8).apply(decoder_params(*decoder), keys, image)["coarse"]
    np.testing.assert_allclose(logits[..., 0], expected, rtol=1e-4, atol=1e-4)


def test_coarse_logits_are_those_of_the_baseline():
    keys, kernel, bias = draw_keys()
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
    keys, kernel, bias = draw_keys(8)
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
    keys, _, _ = draw_keys()
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
    keys, kernel, bias = draw_keys()
    variables = decoder_params(kernel, bias)
    first = FoundDecoder(8).init(jax.random.key(0), keys, jnp.zeros((2, 24, 32, 3)))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, first)
    kernel_again, bias_again = decoder_weights(variables)
    np.testing.assert_array_equal(kernel_again, kernel)
    assert bias_again == bias
    assert kernel_again.dtype == np.float32
