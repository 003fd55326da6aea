"""MaskCut against planted objects, and where there are none."""

import numpy as np
import pytest

from sempart_jax.baselines.maskcut import maskcut

BLOBS = {
    1: (slice(2, 9), slice(2, 9)),
    2: (slice(4, 10), slice(9, 15)),
    3: (slice(13, 18), slice(20, 26)),
}
"""Two that touch, and one by itself."""


def planted(seed, noise=0.07):
    """Keys of three blobs on a ground, all at right angles, and the blobs' labels."""
    labels = np.zeros((20, 28), int)
    for number, place in BLOBS.items():
        labels[place] = number
    keys = np.eye(8)[labels] + np.random.default_rng(seed).normal(scale=noise, size=(20, 28, 8))
    return keys.astype(np.float32), labels


def test_planted_objects_are_found_and_told_apart():
    keys, labels = zip(*map(planted, range(3)), strict=True)
    # An image in which there is nothing ends before the others.
    found = maskcut(np.stack([*keys, np.ones_like(keys[0])]))
    for objects, expected in zip(found["objects"], labels, strict=False):
        assert objects.max() == 3
        for number in BLOBS:
            (best,) = {*objects[expected == number].ravel()} - {0} or {-1}
            ours, theirs = objects == best, expected == number
            assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.95
    assert not found["objects"][3].any()
    np.testing.assert_array_equal(found["mask"], found["objects"] > 0)


def test_batches_are_cut_as_single_images():
    keys = np.stack([planted(seed)[0] for seed in range(2)])
    for each, objects in zip(keys, maskcut(keys)["objects"], strict=True):
        np.testing.assert_array_equal(maskcut(each[None])["objects"][0], objects)


def test_the_side_with_the_corners_is_no_object():
    keys, _ = planted(0)
    # The ground is smaller than what it surrounds.
    keys[1:19, 1:27] = np.eye(8)[3]
    objects = maskcut(keys[None])["objects"][0]
    assert objects.max() == 1
    np.testing.assert_array_equal(objects[1:19, 1:27], 1)
    assert not objects[0].any()


@pytest.mark.parametrize(
    "keys",
    [
        np.ones((1, 6, 6, 4)),
        np.zeros((1, 6, 6, 4)),
        np.ones((1, 1, 1, 4)),
        np.zeros((1, 1, 1, 4)),
    ],
)
def test_where_all_is_equal_there_is_no_object(keys):
    assert not maskcut(keys.astype(np.float32))["objects"].any()


@pytest.mark.parametrize(
    "keys", [np.eye(24).reshape(1, 4, 6, 24), np.random.default_rng(0).normal(size=(1, 1, 9, 4))]
)
@pytest.mark.filterwarnings("error")
def test_degenerate_keys_give_numbers(keys):
    objects = maskcut(keys.astype(np.float32))["objects"]
    assert objects.shape == keys.shape[:3]
    assert set(np.unique(objects)) - {0} == set(range(1, objects.max() + 1))


def test_stray_patches_are_no_objects_and_hide_none():
    keys, labels = planted(0)
    keys[16, 4], keys[1, 20] = np.eye(8)[6], -np.eye(8)[7]
    objects = maskcut(keys[None])["objects"][0]
    assert objects.max() == 3
    np.testing.assert_array_equal(objects > 0, labels > 0)
