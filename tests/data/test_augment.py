import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.data import augment as module
from sempart_jax.data.augment import (
    Augmentation,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    augment,
    augment_batch,
    rgb_to_grayscale,
)

NOTHING = {
    "flip_probability": 0.0,
    "jitter_probability": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "grayscale_probability": 0.0,
}
ORDERS = list(itertools.permutations(range(4)))
RUN = jax.jit(lambda keys, images: augment_batch(keys, images, Augmentation()))


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def picture(shape=(9, 11, 3), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def gray(image: np.ndarray) -> np.ndarray:
    return (image @ np.array([0.2989, 0.587, 0.114]))[..., None]


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * image, 0, 1)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * image + (1 - factor) * gray(image).mean(), 0, 1)


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(factor * image + (1 - factor) * gray(image), 0, 1)


def hue(image: np.ndarray, shift: float) -> np.ndarray:
    turned = np.empty_like(image)
    for place in np.ndindex(image.shape[:-1]):
        h, s, v = colorsys.rgb_to_hsv(*image[place].tolist())
        turned[place] = colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
    return turned


OPERATIONS = (
    (adjust_brightness, brightness),
    (adjust_contrast, contrast),
    (adjust_saturation, saturation),
    (adjust_hue, hue),
)


def close(actual, expected, atol=2e-6):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4, 3.0])
@pytest.mark.parametrize("operation", range(3))
def test_blends(operation, factor):
    ours, reference = OPERATIONS[operation]
    image = picture()
    close(ours(jnp.asarray(image), factor), reference(image.astype(np.float64), factor))


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.07, 1 / 3, 0.5])
def test_hue(shift):
    image = picture((17, 13, 3), seed=1)
    # Ties between channels, greys, black, white and pure colours, where the hue has cases.
    corners = np.array(list(itertools.product([0.0, 0.5, 1.0], repeat=3)), np.float32)
    for pixels in (image, corners[None]):
        close(adjust_hue(jnp.asarray(pixels), shift), hue(pixels.astype(np.float64), shift))


def test_hue_by_hand():
    red = jnp.array([[[1.0, 0.0, 0.0]]])
    close(adjust_hue(red, 1 / 3), [[[0, 1, 0]]], 1e-6)
    close(adjust_hue(red, -1 / 3), [[[0, 0, 1]]], 1e-6)
    close(adjust_hue(red, 0.5), [[[0, 1, 1]]], 1e-6)


def test_grayscale():
    image = picture()
    close(rgb_to_grayscale(jnp.asarray(image)), gray(image.astype(np.float64)), 1e-6)
    close(rgb_to_grayscale(jnp.eye(3)[None]), np.array([[[0.2989], [0.587], [0.114]]]), 1e-7)


@pytest.mark.parametrize("operation", range(4))
def test_a_stack_of_images_is_images_one_by_one(operation):
    ours, _ = OPERATIONS[operation]
    stack = jnp.asarray(picture((2, 3, 5, 7, 3)))
    whole = ours(stack, 0.3)
    for place in np.ndindex(2, 3):
        close(whole[place], ours(stack[place], 0.3), 1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_the_jitter(order):
    image = picture(seed=2)
    factors = np.array([1.35, 0.7, 1.2, 0.08], np.float32)
    expected = image.astype(np.float64)
    for operation in order:
        expected = OPERATIONS[operation][1](expected, float(factors[operation]))
    jittered = jax.jit(module._jitter)(jnp.asarray(image), jnp.array(order), jnp.asarray(factors))
    close(jittered, expected, 5e-6)


def batch_of(image: np.ndarray, count: int, **options) -> np.ndarray:
    keys = jax.random.split(jax.random.key(7), count)
    images = jnp.broadcast_to(jnp.asarray(image), (count, *image.shape))
    augmentation = Augmentation(**{**NOTHING, **options})
    run = jax.jit(lambda keys, images: augment_batch(keys, images, augmentation))
    return np.asarray(run(keys, images))


def test_nothing_changes_nothing():
    image = picture()
    np.testing.assert_array_equal(batch_of(image, 3), np.broadcast_to(image, (3, *image.shape)))


def test_flip_is_exact():
    image = picture()
    np.testing.assert_array_equal(batch_of(image, 2, flip_probability=1.0)[1], image[:, ::-1])


def test_flip_jitter_and_grayscale_are_independent_and_as_frequent_as_said():
    image = np.random.default_rng(0).uniform(0.3, 0.4, (4, 5, 3)).astype(np.float32)
    probabilities = {
        "flip_probability": 0.5,
        "jitter_probability": 0.6,
        "grayscale_probability": 0.3,
    }
    done = batch_of(image, 4000, brightness=0.2, **probabilities)
    # Brightness alone scales all pixels: the mean shows the jitter, the rest the flip.
    luma, upright = gray(done), gray(image)
    gray_hits = (done == done[..., :1]).all(axis=(1, 2, 3))
    # The weights add up to 0.9999, and the pixels of a grey image are weighed twice here.
    luma[gray_hits] /= 0.9999
    jitter_hits = abs(luma.mean(axis=(1, 2, 3)) / upright.mean() - 1) > 2e-5
    shape = luma / luma.mean(axis=(1, 2, 3), keepdims=True)
    flip_hits = abs(shape - upright[:, ::-1] / upright.mean()).max(axis=(1, 2, 3)) < 1e-4
    together = np.stack([flip_hits, jitter_hits, gray_hits]).astype(int)
    counts = np.bincount(np.array([4, 2, 1]) @ together, minlength=8)
    odds = [np.array([1 - p, p]) for p in probabilities.values()]
    expected = np.einsum("i,j,k->ijk", *odds).ravel()
    sigma = np.sqrt(4000 * expected * (1 - expected))
    assert (abs(counts - 4000 * expected) < 4 * sigma).all(), counts


@pytest.mark.parametrize(
    ("strengths", "low", "high"),
    [
        ((0.4, 0.4, 0.2, 0.1), (0.6, 0.6, 0.8, -0.1), (1.4, 1.4, 1.2, 0.1)),
        ((1.5, 2.0, 1.0, 0.5), (0.0, 0.0, 0.0, -0.5), (2.5, 3.0, 2.0, 0.5)),
    ],
)
def test_orders_and_factors_are_uniform(monkeypatch, strengths, low, high):
    def show(image, order, factors):
        drawn = jnp.concatenate([order.astype(jnp.float32), factors, jnp.zeros(1)])
        return drawn.reshape(image.shape)

    monkeypatch.setattr(module, "_jitter", show)
    names = ("brightness", "contrast", "saturation", "hue")
    options = dict(zip(names, strengths, strict=True))
    drawn = batch_of(picture((1, 3, 3)), 4800, jitter_probability=1.0, **options).reshape(-1, 9)
    counts = [(drawn[:, :4] == order).all(axis=1).sum() for order in ORDERS]
    # 200 each, standard deviation 14
    assert sum(counts) == 4800
    assert min(counts) > 140
    assert max(counts) < 265
    for name, factors, bottom, top in zip(names, drawn[:, 4:8].T, low, high, strict=True):
        margin = 1e-5
        counts, _ = np.histogram(factors, 10, (bottom - margin, top + margin))
        # 480 each, standard deviation 21
        assert counts.sum() == 4800, name
        assert abs(counts - 480).max() < 95, name
    correlation = np.corrcoef(drawn[:, :8].T)
    assert abs(correlation[4:, :] - np.eye(8)[4:]).max() < 0.07


def test_a_key_decides_whatever_the_place_in_the_batch():
    images = jnp.asarray(picture((6, 8, 9, 3)))
    keys = jax.random.split(jax.random.key(0), 6)
    order = np.array([3, 0, 5, 1, 4, 2])
    done = RUN(keys, images)
    np.testing.assert_array_equal(RUN(keys[order], images[order]), done[order])
    one = jax.jit(lambda key, image: augment(key, image, Augmentation()))
    for place in range(6):
        close(one(keys[place], images[place]), done[place], 2e-6)
    assert not np.array_equal(RUN(jax.random.split(jax.random.key(1), 6), images), done)


def test_bytes_are_the_same_as_floats():
    data = np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
    keys = jax.random.split(jax.random.key(0), 6)
    floats = jnp.asarray(data.astype(np.float32) / 255)
    done = RUN(keys, jnp.asarray(data))
    assert done.dtype == jnp.float32
    close(done, RUN(keys, floats))


def test_raw_keys_are_taken_too():
    keys = jax.random.split(jax.random.key(0), 6)
    images = jnp.asarray(picture((6, 8, 9, 3)))
    close(RUN(jax.random.key_data(keys), images), RUN(keys, images))


def test_over_devices():
    devices = jax.local_device_count()
    keys = jax.random.split(jax.random.key(0), (devices, 2))
    images = jnp.asarray(picture((devices, 2, 8, 9, 3)))
    done = jax.pmap(lambda k, i: augment_batch(k, i, Augmentation()))(keys, images)
    flat = RUN(keys.reshape(-1), images.reshape(-1, 8, 9, 3))
    close(done.reshape(flat.shape), flat)


@settings(deadline=None, max_examples=4)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_size_stays_in_range(height, width, seed):
    with jax.numpy_dtype_promotion("strict"):
        run = jax.jit(
            lambda key, image: augment(
                key, image, Augmentation(brightness=3.0, contrast=3.0, saturation=3.0, hue=0.5)
            )
        )
        done = run(jax.random.key(seed), jnp.asarray(picture((height, width, 3), seed)))
    assert done.shape == (height, width, 3)
    assert done.dtype == jnp.float32
    assert 0 <= done.min() <= done.max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_probability": 1.5}, "probability leave"),
        ({"grayscale_probability": -0.1}, "probability leave"),
        ({"brightness": -0.1}, "brightness -0.1"),
        ({"hue": 0.6}, "hue 0.6"),
    ],
)
def test_senseless_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
