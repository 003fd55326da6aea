import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sempart_jax.training import multi_crop as module
from sempart_jax.training.multi_crop import Crops, MultiCrop, multi_crop, multi_crop_batch
from sempart_jax.two_tricks.augment import Augmentation
from tests.kernels.blur_reference import blurred

SMALL = MultiCrop(global_size=16, local_size=9, local_crops=3)
STILL = Augmentation(flip_probability=0.0, jitter_probability=0.0, grayscale_probability=0.0)
PLAIN = MultiCrop(
    global_size=16,
    local_size=16,
    local_crops=1,
    augmentation=STILL,
    blur_probabilities=(0.0, 0.0, 0.0),
    solarize_probability=0.0,
)
# Crops of a square image of their own size, 16, are then this image to the last bit.
WHOLE = dataclasses.replace(PLAIN, global_area=(1.0, 1.0), local_area=(1.0, 1.0))
BATCH = jax.jit(multi_crop_batch, static_argnames="settings")


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 24, 28, 3), dtype=np.uint8)


def floats(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images.astype(np.float32) / 255)


def keys(count: int, seed=5):
    return jax.random.split(jax.random.key(seed), count)


def close(actual, expected, atol=2e-6):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


def crop_many(image: np.ndarray, count: int, settings: MultiCrop) -> list[np.ndarray]:
    """First global, second global and first local crop of many copies of one image."""
    images = jnp.broadcast_to(jnp.asarray(image), (count, *image.shape))
    done = BATCH(keys(count), images, settings=settings)
    return [np.asarray(part) for part in (done.global_[0], done.global_[1], done.local[0])]


def near(hits: np.ndarray, probability: float) -> bool:
    """Whether a share of hits is within four standard deviations of what it should be."""
    sigma = math.sqrt(probability * (1 - probability) / len(hits))
    return bool(abs(hits.mean() - probability) <= 4 * sigma)


@pytest.fixture
def done() -> Crops:
    return BATCH(keys(4), floats(pictures(4)), settings=SMALL)


def test_all_images_of_a_crop_lie_together(done):
    assert done.global_.shape == (2, 4, 16, 16, 3)
    assert done.local.shape == (3, 4, 9, 9, 3)
    for crops in done:
        assert crops.dtype == jnp.float32
        assert 0 <= crops.min() < crops.max() <= 1


def test_crops_depend_on_the_key_and_their_number_alone(done):
    more = dataclasses.replace(SMALL, local_crops=5)
    one = jax.jit(lambda key, image: multi_crop(key, image, more))
    for place, (key, image) in enumerate(zip(keys(4), pictures(4), strict=True)):
        crops = one(key, floats(image))
        close(crops.global_, done.global_[:, place])
        close(crops.local[:3], done.local[:, place])
        # All of them differ, also those whose settings are the same.
        assert len(np.unique(np.asarray(crops.local).reshape(5, -1), axis=0)) == 5
        assert (crops.global_[0] != crops.global_[1]).any()


def test_a_key_decides_whatever_the_place_in_the_batch(done):
    order = np.array([2, 0, 3, 1])
    moved = BATCH(keys(4)[order], floats(pictures(4)[order]), settings=SMALL)
    np.testing.assert_array_equal(moved.global_, done.global_[:, order])
    np.testing.assert_array_equal(moved.local, done.local[:, order])
    other = BATCH(keys(4, seed=6), floats(pictures(4)), settings=SMALL)
    assert (np.asarray(other.local) != done.local).any(axis=(2, 3, 4)).all()


def test_bytes_and_raw_keys_over_devices(done):
    settings = dataclasses.replace(SMALL, local_crops=0)
    spread = jax.pmap(
        lambda keys, images: multi_crop_batch(keys, images, settings),
        devices=jax.local_devices()[:4],
    )(jax.random.key_data(keys(4))[:, None], jnp.asarray(pictures(4))[:, None])
    assert spread.global_.shape == (4, 2, 1, 16, 16, 3)
    close(np.swapaxes(spread.global_[:, :, 0], 0, 1), done.global_)
    assert spread.local.shape == (4, 0, 1, 9, 9, 3)


def test_crops_show_the_given_share_of_the_image():
    # Red grows by row and green by column, so that a crop tells its box by its mean slopes.
    side = 128
    ramp = (np.arange(side, dtype=np.float32) + 0.5) / side
    image = np.stack([*np.meshgrid(ramp, ramp, indexing="ij"), np.zeros((side, side))], axis=-1)
    settings = dataclasses.replace(PLAIN, global_area=(0.3, 0.4), local_area=(0.05, 0.2))
    for crops, (low, high) in zip(
        crop_many(image.astype(np.float32), 600, settings),
        [(0.3, 0.4), (0.3, 0.4), (0.05, 0.2)],
        strict=True,
    ):
        size = crops.shape[1]
        span = size / (size - 3)  # the outermost pixels are bent by the renormalised kernel
        heights = (crops[:, -2, 2, 0] - crops[:, 1, 2, 0]) * span
        widths = (crops[:, 2, -2, 1] - crops[:, 2, 1, 1]) * span
        shares, ratios = heights * widths, widths / heights
        assert (low - 0.02 < shares).all()
        assert (shares < high + 0.02).all()
        # uniform, and log-uniform in 3/4 to 4/3
        middle, spread = (low + high) / 2, (high - low) / math.sqrt(12)
        assert abs(shares.mean() - middle) < 4.5 * spread / math.sqrt(600)
        assert abs(shares.std() / spread - 1) < 0.12
        assert abs(np.log(ratios).mean()) < 4.5 * math.log(16 / 9) / math.sqrt(12 * 600)
        assert abs(np.log(ratios).std() * math.sqrt(12) / math.log(16 / 9) - 1) < 0.12


def test_flip_grayscale_and_solarizing_are_as_frequent_as_said():
    image = np.zeros((16, 16, 3), np.float32)
    image[:, :8] = [0.9, 0.6, 0.6]
    augmentation = dataclasses.replace(STILL, flip_probability=0.3, grayscale_probability=0.6)
    settings = dataclasses.replace(WHOLE, augmentation=augmentation, solarize_probability=0.2)
    crops = np.stack(crop_many(image, 1000, settings))
    flipped = crops[:, :, 0, -1].max(-1) > 0
    gray = (crops == crops[..., :1]).all(axis=(2, 3, 4))
    solarized = crops.max(axis=(2, 3, 4)) < 0.5
    for number in range(3):
        assert near(flipped[number], 0.3), number
        assert near(gray[number], 0.6), number
        assert near(flipped[number] & gray[number], 0.18), number
    # No crop's draws are another one's; standard deviation 0.032.
    for hits in (flipped, gray):
        assert abs(np.corrcoef(hits) - np.eye(3)).max() < 0.13
    # Only the second global crop is solarized, and after it has been turned to grey.
    assert not solarized[[0, 2]].any()
    assert near(solarized[1], 0.2)
    assert near(solarized[1] & gray[1], 0.12)
    assert near(solarized[1] & flipped[1], 0.06)
    plain = solarized[1] & ~gray[1] & ~flipped[1]
    expected = np.where(image >= 0.5, 1 - image, image)
    close(crops[1][plain], np.broadcast_to(expected, crops[1][plain].shape), 1e-6)


def test_each_crop_has_its_own_probability_of_blur():
    image = np.zeros((16, 16, 3), np.float32)
    image[8, 8] = 1.0
    settings = dataclasses.replace(
        WHOLE,
        augmentation=dataclasses.replace(STILL, blur_sigma=(0.6, 1.6)),
        blur_probabilities=(1.0, 0.1, 0.5),
    )
    weakest, middle, strongest = (
        blurred(image[..., :1], sigma, 5)[8, 8, 0] for sigma in (0.6, 1.1, 1.6)
    )
    for crops, probability in zip(
        crop_many(image, 1000, settings), settings.blur_probabilities, strict=True
    ):
        hit = (crops != image).any(axis=(1, 2, 3))
        assert near(hit, probability)
        peaks = crops[hit][:, 8, 8, 0]
        assert strongest - 1e-5 < peaks.min() < peaks.max() < weakest + 1e-5
        # Half of the deviations are below the middle of their range.
        assert near(peaks > middle, 0.5)


def test_the_order_of_changes(monkeypatch):
    """Crop, then flip, jitter and grayscale, then blur, and solarizing last."""
    done = []

    def spy(name, change):
        def changed(*arguments, **options):
            done.append(name)
            return change(*arguments, **options)

        return changed

    for name in ("random_resized_crop", "augment", "random_blur", "solarize"):
        monkeypatch.setattr(module, name, spy(name, getattr(module, name)))
    jax.eval_shape(
        lambda key, image: multi_crop(key, image, SMALL), keys(1)[0], floats(pictures(1)[0])
    )
    assert done == 2 * ["random_resized_crop", "augment", "random_blur", "solarize"]
