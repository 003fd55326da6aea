"""FOUND's background against the authors' code and against NumPy."""

import numpy as np
import pytest

from sempart_jax.baselines.found import background_mask, decoder_logits
from sempart_jax.networks.released import read_found_decoder
from tests.baselines.references import photographs, seeded_vit_features
from tests.conftest import REFERENCE


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


def test_golden_decoder(golden):
    pytest.importorskip("torch")
    path = REFERENCE / "weights/found_decoder_weights.pt"
    if not path.exists():
        pytest.skip(f"released decoder not found: {path}")
    values = golden("baselines")
    logits = decoder_logits(values["keys"], *read_found_decoder(path))
    np.testing.assert_allclose(logits, values["found_decoder_logits"], rtol=1e-4, atol=1e-4)


def test_decoder_is_a_convolution_of_one_pixel():
    keys, _ = draw(0)
    kernel = np.random.default_rng(1).normal(size=12).astype(np.float32)
    expected = np.einsum("hwd,d->hw", keys.astype(np.float64), kernel) + 0.5
    logits = decoder_logits(keys[None], kernel, 0.5)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[0], expected, atol=1e-5)
