import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sempart_jax.kernels.random_resized_crop import (
    Box,
    draw_box,
    random_resized_crop,
    resize_box,
)

RESIZE = jax.jit(resize_box, static_argnames="size")


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


def picture(height: int, width: int, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)


def close(actual, expected, atol):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=atol)


def boxed(top: int, left: int, height: int, width: int) -> Box:
    return Box(*(jnp.asarray(value) for value in (top, left, height, width)))


def by_pillow(image: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut the box out, then resize it, a channel at a time; float32 within Pillow."""
    top, left, height, width = box
    cut = np.ascontiguousarray(image[top : top + height, left : left + width])
    channels = [
        Image.fromarray(cut[..., channel]).resize((size, size), Image.Resampling.BICUBIC)
        for channel in range(image.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def keys_cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2, in float64."""
    x = abs(distance)
    near = 1 - 2.5 * x**2 + 1.5 * x**3
    far = 2 - 4 * x + 2.5 * x**2 - 0.5 * x**3
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def in_float64(image: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Sum over all pixels of the box with the kernel widened where it shrinks."""
    top, left, height, width = box
    result = image[top : top + height, left : left + width].astype(np.float64)
    for axis, length in enumerate((height, width)):
        step = length / size
        centres = (np.arange(size) + 0.5) * step
        pixels = np.arange(length) + 0.5
        weights = keys_cubic((pixels[None] - centres[:, None]) / max(step, 1))
        weights /= weights.sum(axis=1, keepdims=True)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return result


BOXES = [
    (0, 0, 50, 70),
    (3, 5, 40, 60),
    (49, 69, 1, 1),
    (0, 20, 2, 7),
    (10, 0, 24, 24),
    (17, 31, 33, 11),
    (0, 0, 1, 70),
    (25, 8, 25, 48),
]


@pytest.mark.parametrize("size", [1, 7, 24, 61])
def test_a_box_is_resized_as_pillow_does(size):
    image = picture(50, 70)
    for box in BOXES:
        done = RESIZE(jnp.asarray(image), boxed(*box), size=size)
        close(done, by_pillow(image, box, size), 3e-6)
        close(done, in_float64(image, box, size), 3e-6)


def test_many_random_boxes_of_a_large_image():
    generator = np.random.default_rng(1)
    image = picture(300, 400)
    for _ in range(25):
        height, width = (int(generator.integers(1, side + 1)) for side in (300, 400))
        top = int(generator.integers(0, 300 - height + 1))
        left = int(generator.integers(0, 400 - width + 1))
        done = RESIZE(jnp.asarray(image), boxed(top, left, height, width), size=48)
        close(done, by_pillow(image, (top, left, height, width), 48), 5e-6)


def test_what_surrounds_the_box_does_not_matter():
    image = picture(30, 40)
    around = np.full_like(image, 1e6)
    around[5:18, 7:31] = image[5:18, 7:31]
    box = boxed(5, 7, 13, 24)
    inside = RESIZE(jnp.asarray(image), box, size=20)
    np.testing.assert_array_equal(RESIZE(jnp.asarray(around), box, size=20), inside)


def test_a_box_of_the_wanted_size_is_cut_out_as_it_is():
    image = picture(30, 40)
    done = RESIZE(jnp.asarray(image), boxed(4, 9, 16, 16), size=16)
    np.testing.assert_array_equal(done, image[4:20, 9:25])


def draw_many(count, height, width, area, aspect_ratio=(3 / 4, 4 / 3)) -> np.ndarray:
    """``[count, 4]``: top, left, height and width."""
    run = jax.jit(jax.vmap(lambda key: draw_box(key, height, width, area, aspect_ratio)))
    return np.stack(run(jax.random.split(jax.random.key(3), count)), axis=1)


def even(values, low, high, bins=8) -> bool:
    """Whether the values are uniform: chi-square below its 99.9th percentile at 7 degrees."""
    counts, _ = np.histogram(values, bins, (low, high))
    expected = len(values) / bins
    return counts.sum() == len(values) and ((counts - expected) ** 2 / expected).sum() < 24.3


def test_areas_ratios_and_places_are_uniform():
    # Boxes of at most a quarter of a large square fit at every ratio: nothing is refused.
    side, count = 1000, 2000
    boxes = draw_many(count, side, side, (0.05, 0.25))
    top, left, height, width = boxes.T
    share = height * width / side**2
    log_ratio = np.log(width / height)
    assert even(share, 0.0495, 0.2505)
    assert even(log_ratio, math.log(0.748), math.log(1 / 0.748))
    assert even((top + 0.5) / (side - height + 1), 0, 1)
    assert even((left + 0.5) / (side - width + 1), 0, 1)
    drawn = np.corrcoef([share, log_ratio, top / (side - height), left / (side - width)])
    # standard deviation 0.022
    assert abs(drawn - np.eye(4)).max() < 0.09


def test_boxes_lie_within_the_image_and_reach_all_of_its_borders():
    boxes = draw_many(3000, 9, 13, (0.1, 1.0), (0.5, 2.0))
    top, left, height, width = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    for start, length, side in ((top, height, 9), (left, width, 13)):
        assert (start + length).max() == side
        small = length <= side // 2
        assert {0, side} <= {*start[small]} | {*(start + length)[small]}


def torchvision_box(draws, height, width, area, ratio):
    """One attempt at a box as torchvision does it; None where it does not fit."""
    target = height * width * (area[0] + (area[1] - area[0]) * draws[0])
    lowest, highest = math.log(ratio[0]), math.log(ratio[1])
    aspect = math.exp(lowest + (highest - lowest) * draws[1])
    box_width, box_height = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
    fits = 0 < box_width <= width and 0 < box_height <= height
    return (box_height, box_width) if fits else None


def test_refused_boxes_are_drawn_again_as_in_torchvision():
    """The sizes are distributed as those of a loop over ten attempts with another generator."""
    height, width, area, ratio = 40, 100, (0.2, 1.0), (0.5, 2.0)
    generator = np.random.default_rng(0)
    expected, refused = [], 0
    for _ in range(20000):
        attempts = (
            torchvision_box(draws, height, width, area, ratio)
            for draws in generator.random((10, 2))
        )
        box = next((box for box in attempts if box), None)
        refused += box is None
        expected.append(box or (40, 80))
    # Ten attempts all fail now and then, and the fallback is 80 wide, for its ratio is bounded.
    assert refused > 10
    drawn = draw_many(4000, height, width, area, ratio)[:, 2:]
    for mine, theirs in zip(drawn.T, np.array(expected).T, strict=True):
        edges = np.quantile(theirs, np.linspace(0, 1, 9)[1:-1]) + 0.25
        shares = [
            np.bincount(np.searchsorted(edges, sides), minlength=8) / len(sides)
            for sides in (mine, theirs)
        ]
        # standard deviation of a share of 1/8 of 4,000: 0.0052
        assert abs(shares[0] - shares[1]).max() < 0.023
    np.testing.assert_allclose(drawn.mean(0), np.mean(expected, 0), rtol=0.02)


@pytest.mark.parametrize(
    ("height", "width", "area", "aspect_ratio", "expected"),
    [
        (10, 200, (0.9, 0.95), (3 / 4, 4 / 3), (0, 93, 10, 13)),
        (200, 10, (0.9, 0.95), (3 / 4, 4 / 3), (93, 0, 13, 10)),
        # All of an image whose own ratio is allowed, but hardly ever drawn.
        (1200, 1500, (1.0, 1.0), (0.1, 10.0), (0, 0, 1200, 1500)),
        (1, 1, (0.01, 0.02), (3.0, 4.0), (0, 0, 1, 1)),
    ],
)
def test_the_fallback_is_the_middle(height, width, area, aspect_ratio, expected):
    boxes = draw_many(50, height, width, area, aspect_ratio)
    np.testing.assert_array_equal(boxes, np.broadcast_to(expected, boxes.shape))


def test_a_crop_is_its_box_resized_and_clipped():
    image = (picture(40, 60) > 0.5).astype(np.float32)
    run = jax.jit(lambda key, image: random_resized_crop(key, image, 50, (0.1, 0.6)))
    for key in jax.random.split(jax.random.key(0), 5):
        box = [int(side) for side in draw_box(key, 40, 60, (0.1, 0.6))]
        crop = run(key, jnp.asarray(image))
        resized = in_float64(image, tuple(box), 50)
        # The kernel overshoots at edges.
        assert resized.min() < 0
        assert resized.max() > 1
        close(crop, np.clip(resized, 0, 1), 3e-6)


def test_the_whole_image_is_resized():
    image = picture(33, 33)
    crop = random_resized_crop(jax.random.key(0), jnp.asarray(image), 21, (1.0, 1.0), (1.0, 1.0))
    close(crop, np.clip(by_pillow(image, (0, 0, 33, 33), 21), 0, 1), 3e-6)


@settings(deadline=None, max_examples=4)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_size(height, width, size, seed):
    with jax.numpy_dtype_promotion("strict"):
        image = jnp.full((height, width, 3), 0.3)
        run = jax.jit(lambda key, image: random_resized_crop(key, image, size, (0.001, 1.0)))
        crop = run(jax.random.key(seed), image)
    # Weights add up to 1, so an even image stays even.
    close(crop, np.full((size, size, 3), 0.3), 1e-6)


@pytest.mark.parametrize(
    ("area", "aspect_ratio", "message"),
    [
        ((0.0, 0.5), (0.75, 1.5), r"area \(0.0, 0.5\) must be .* both in \(0, 1\]"),
        ((0.5, 0.4), (0.75, 1.5), r"area \(0.5, 0.4\) must"),
        ((0.5, 1.1), (0.75, 1.5), r"area \(0.5, 1.1\) must"),
        ((0.5, 1.0), (0.0, 1.5), r"aspect_ratio \(0.0, 1.5\) must be .* both positive"),
        ((0.5, 1.0), (2.0, 1.5), r"aspect_ratio \(2.0, 1.5\) must"),
        ((0.5, 1.0), (1.0, math.inf), r"aspect_ratio \(1.0, inf\) must"),
    ],
)
def test_senseless_ranges_are_refused(area, aspect_ratio, message):
    with pytest.raises(ValueError, match=message):
        draw_box(jax.random.key(0), 9, 9, area, aspect_ratio)
