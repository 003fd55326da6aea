import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sempart_jax.two_tricks import augment as module
from sempart_jax.two_tricks.augment import (
    Augmentation,
    augment,
    augment_batch,
    augment_mask,
    augment_mask_batch,
    shrink,
)
from tests.kernels.blur_reference import blurred

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


def close(actual, expected, atol=2e-6):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


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

    monkeypatch.setattr(module, "jitter", show)
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


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 5)])
def test_any_size_stays_in_range(size):
    strong = {"brightness": 3.0, "contrast": 3.0, "saturation": 3.0, "hue": 0.5}
    augmentation = Augmentation(**strong, blur_probability=1.0, smallest_scale=0.2)
    run = jax.jit(lambda key, image: augment(key, image, augmentation))
    for seed in range(3):
        done = run(jax.random.key(seed), jnp.asarray(picture((*size, 3), seed)))
        assert done.shape == (*size, 3)
        assert done.dtype == jnp.float32
        assert 0 <= done.min() <= done.max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_probability": 1.5}, "probability leave"),
        ({"grayscale_probability": -0.1}, "probability leave"),
        ({"brightness": -0.1}, "brightness -0.1"),
        ({"hue": 0.6}, "hue 0.6"),
        ({"blur_probability": 1.1}, "probability leave"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma .0.0, 2.0. must"),
        ({"blur_sigma": (2.0, 1.0)}, "blur_sigma .2.0, 1.0. must"),
        ({"blur_sigma": (1.0, math.inf)}, "blur_sigma .1.0, inf. must"),
        ({"smallest_scale": 0.0}, "smallest_scale 0.0"),
        ({"smallest_scale": 1.5}, "smallest_scale 1.5"),
    ],
)
def test_senseless_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_the_draws_are_those_of_every_run_so_far():
    images = jnp.asarray(picture((4, 9, 11, 3)))
    done = RUN(jax.random.split(jax.random.key(11), 4), images)
    corner = [
        [0.7338110, 0.2442130, 0.0690930],
        [1.0, 0.9175770, 1.0],
        [0.7575360, 0.1498360, 1.0],
        [0.0667960, 0.5265840, 0.6019409],
    ]
    close(done[:, 0, 0], corner)


def shrunk(pixels: np.ndarray, scale: float, corner, around) -> np.ndarray:
    """Sample each axis with a triangle as wide as the factor needs; in float64."""
    result = pixels.astype(np.float64)
    inside = np.ones(pixels.shape[:2], bool)
    for axis in range(2):
        size = pixels.shape[axis]
        centres = (np.arange(size) + 0.5 - corner[axis]) / scale
        weights = np.maximum(0, 1 - abs(centres[:, None] - 0.5 - np.arange(size)) * min(scale, 1))
        sums = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
        hit = (centres > 0) & (centres < size)
        inside &= np.expand_dims(hit, 1 - axis)
    return np.where(inside[..., None], result, around)


@pytest.mark.parametrize(
    ("scale", "corner"),
    [(1.0, (0.0, 0.0)), (0.61, (3.3, 5.7)), (0.5, (11.9, 0.2)), (0.13, (20.1, 13.4))],
)
def test_shrink(scale, corner):
    pixels, around = picture((24, 32, 3)), np.array([0.9, 0.1, 0.4], np.float32)
    done = jax.jit(shrink)(jnp.asarray(pixels), scale, jnp.asarray(corner), jnp.asarray(around))
    close(done, shrunk(pixels, scale, corner, around))


@pytest.mark.parametrize("factor", [2, 4])
def test_shrink_is_an_antialiased_resize_within_a_frame(factor):
    pixels = picture((24, 32))
    height, width = 24 // factor, 32 // factor
    expected = np.zeros((24, 32))
    expected[3 : 3 + height, 5 : 5 + width] = np.asarray(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    )
    corner = jnp.array([3.0, 5.0])
    done = shrink(jnp.asarray(pixels)[..., None], 1 / factor, corner, jnp.zeros(1))
    close(done[..., 0], expected)


SMALLER = {"flip_probability": 0.5, "smallest_scale": 0.2}


def masks_of(masks: np.ndarray, **options) -> np.ndarray:
    """Masks under the keys of ``batch_of``."""
    keys = jax.random.split(jax.random.key(7), len(masks))
    augmentation = Augmentation(**{**NOTHING, **options})
    run = jax.jit(lambda keys, masks: augment_mask_batch(keys, masks, augmentation))
    return np.asarray(run(keys, jnp.asarray(masks)))


def test_a_mask_moves_with_its_image():
    mask = picture((18, 22))
    images = batch_of(np.repeat(mask[..., None], 3, axis=-1), 12, **SMALLER)
    masks = masks_of(np.broadcast_to(mask, (12, 18, 22)), **SMALLER)
    inside = masks_of(np.ones((12, 18, 22), np.float32), **SMALLER)
    assert 0 < np.mean(inside > 0.5) < 0.8
    np.testing.assert_allclose(inside, inside > 0.5, atol=1e-5)
    # The image is surrounded by its mean colour, the mask by nothing.
    close(np.where(inside > 0.5, images[..., 0], 0.0), masks)
    close(images[inside < 0.5], mask.mean(dtype=np.float64), 1e-6)
    assert (masks[inside < 0.5] == 0).all()


def test_colours_and_blur_leave_masks_alone():
    mask = np.broadcast_to(picture((9, 11)), (6, 9, 11))
    done = masks_of(mask, **SMALLER, jitter_probability=1.0, brightness=0.4, blur_probability=1.0)
    np.testing.assert_array_equal(done, masks_of(mask, **SMALLER))


def test_a_mask_is_flipped_exactly():
    data = np.random.default_rng(0).integers(0, 256, (3, 9, 11), dtype=np.uint8)
    flipped = masks_of(data, flip_probability=1.0)
    assert flipped.dtype == np.float32
    close(flipped, data[:, :, ::-1] / 255, 1e-7)
    floats = data.astype(np.float32) / 255
    np.testing.assert_array_equal(masks_of(floats, flip_probability=1.0), floats[:, :, ::-1])
    np.testing.assert_array_equal(masks_of(floats), floats)
    np.testing.assert_array_equal(masks_of(np.full_like(data, 255), **SMALLER).max((1, 2)), 1.0)


def test_one_mask_is_that_of_the_batch():
    masks = picture((3, 9, 11))
    keys = jax.random.split(jax.random.key(7), 3)
    augmentation = Augmentation(**{**NOTHING, **SMALLER})
    one = jax.jit(lambda key, mask: augment_mask(key, mask, augmentation))
    for key, mask, expected in zip(keys, masks, masks_of(masks, **SMALLER), strict=True):
        close(one(key, jnp.asarray(mask)), expected)
        close(one(jax.random.key_data(key), jnp.asarray(mask)), expected)


def test_factor_and_place_are_uniform_and_independent_of_the_flip():
    count, size = 3000, 60
    half = np.zeros((count, size, size), np.float32)
    half[:, :, : size // 2] = 1.0
    whole = masks_of(np.ones_like(half), **SMALLER)
    columns = np.arange(size)

    def balance(masks):
        weight = masks.sum(axis=1)
        return (weight * columns).sum(axis=1) / weight.sum(axis=1)

    flipped = balance(masks_of(half, **SMALLER)) > balance(whole)
    # The area falls with the square of the factor.
    scale = np.sqrt(whole.mean(axis=(1, 2)))
    counts, _ = np.histogram(scale, 8, (0.19, 1.01))
    # 375 each, standard deviation 18; the ends of the range are in no bin's middle.
    assert counts.sum() == count
    assert abs(counts - 375).max() < 85, counts
    room = size * (1 - scale)
    free = room > 15
    places = [
        whole.max(axis=2).argmax(axis=1)[free] / room[free],
        whole.max(axis=1).argmax(axis=1)[free] / room[free],
    ]
    for place in places:
        counts, _ = np.histogram(place, 4, (-0.05, 1.05))
        share = counts / free.sum()
        assert abs(share - 0.25).max() < 0.05, share
    # The place of a flipped image is mirrored; uniform all the same.
    drawn = np.corrcoef([scale[free], flipped[free], *places])
    assert abs(drawn - np.eye(4)).max() < 0.08, drawn
    rest = np.corrcoef(scale, flipped)[0, 1]
    assert abs(rest) < 0.07


def test_blur_comes_last_and_is_of_the_given_strength():
    options = {
        "jitter_probability": 1.0,
        "brightness": 2.0,
        "contrast": 2.0,
        "blur_sigma": (1.3,) * 2,
    }
    image = picture((14, 17, 3))
    sharp = batch_of(image, 5, **options)
    assert (sharp == 1).any()
    done = batch_of(image, 5, **options, blur_probability=1.0)
    for before, after in zip(sharp, done, strict=True):
        close(after, blurred(before, 1.3, 4))


def test_strength_and_frequency_of_the_blur():
    count = 3000
    image = np.zeros((15, 15, 3), np.float32)
    image[7, 7] = 1.0
    options = {"blur_probability": 0.3, "blur_sigma": (0.5, 2.0)}
    middle = batch_of(image, count, **options)[:, 7, 7, 0]
    hits = middle < 1
    # standard deviation 0.0084
    assert abs(hits.mean() - 0.3) < 0.034
    sigmas = np.linspace(0.5, 2.0, 301)
    peaks = [blurred(image[..., :1], sigma, 6)[7, 7, 0] for sigma in sigmas]
    drawn = np.interp(-middle[hits], -np.array(peaks), sigmas)
    counts, _ = np.histogram(drawn, 5, (0.49, 2.01))
    # 180 each, standard deviation 12
    assert counts.sum() == hits.sum()
    assert abs(counts / hits.sum() - 0.2).max() < 0.06, counts


def test_blur_is_drawn_for_itself():
    count = 3000
    image = picture((12, 12, 3))
    options = {**SMALLER, "jitter_probability": 0.5, "hue": 0.1, "grayscale_probability": 0.5}
    sharp = batch_of(image, count, **options)
    done = batch_of(image, count, **options, blur_probability=0.5)
    hits = (done != sharp).any(axis=(1, 2, 3))
    gray_hits = (abs(sharp - sharp[..., :1]) < 1e-6).all(axis=(1, 2, 3))
    inside = masks_of(np.ones((count, 12, 12), np.float32), **SMALLER)
    ramp = np.broadcast_to(np.linspace(0, 1, 12, dtype=np.float32), (count, 12, 12))
    flip_hits = (masks_of(ramp, **SMALLER) != masks_of(ramp, smallest_scale=0.2)).any(axis=(1, 2))
    drawn = np.corrcoef([hits, gray_hits, flip_hits, np.sqrt(inside.mean(axis=(1, 2)))])
    assert abs(hits.mean() - 0.5) < 0.04
    assert abs(drawn[0, 1:]).max() < 0.08, drawn


def test_a_constant_image_stays_constant():
    done = batch_of(np.full((9, 11, 3), 0.3, np.float32), 4, **SMALLER, blur_probability=1.0)
    close(done, 0.3, 1e-6)
