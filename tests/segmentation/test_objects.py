"""A foreground as its objects."""

import numpy as np
import pytest

from sempart_jax.segmentation.objects import LEAST_SHARE, choose, combine, expected_iou, split
from sempart_jax.segmentation.outputs import MOST_OBJECTS


def discs(*circles, height=120, width=200):
    rows, columns = np.ogrid[:height, :width]
    return np.stack([(rows - y) ** 2 + (columns - x) ** 2 <= r * r for y, x, r in circles])


def iou(ours, theirs):
    return (ours & theirs).sum() / (ours | theirs).sum()


def test_connected_parts_are_objects_and_crumbs_are_none():
    circles = discs((40, 40, 30), (40, 150, 20), (100, 100, 4))
    assert circles[2].sum() < LEAST_SHARE * circles[0].sum()
    labels = split(circles.any(0))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, circles[0] * 1 + circles[1] * 2)


def test_two_that_touch_are_told_apart():
    circles = discs((60, 60, 32), (60, 116, 28))
    labels = split(circles.any(0))
    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, circles.any(0))
    for circle in circles:
        assert max(iou(labels == number, circle) for number in (1, 2)) > 0.97


@pytest.mark.parametrize(
    "part",
    [
        np.ones((30, 50), bool),
        np.ones((1, 1), bool),
        discs((60, 60, 40))[0] & ~discs((60, 60, 25))[0],
        discs((60, 60, 40), (60, 100, 38)).any(0),
    ],
    ids=["whole picture", "one pixel", "ring", "overlap"],
)
def test_what_has_no_neck_is_one(part):
    np.testing.assert_array_equal(split(part), part)


def test_no_picture_has_more_objects_than_can_be_numbered():
    dots = np.zeros((64, 64), bool)
    dots[::2, ::2] = True
    labels = split(dots)
    assert labels.max() == MOST_OBJECTS
    pairs = np.kron(
        np.ones((20, 10), bool), discs((8, 8, 7), (8, 22, 7), height=17, width=31).any(0)
    )
    assert split(pairs).max() == MOST_OBJECTS
    assert not split(np.zeros((8, 8), bool)).any()


def test_of_masks_the_strongest_has_a_pixel():
    masks = np.array([[0.9, 0.6, 0.2, 0.0], [0.1, 0.8, 0.4, 0.7]], np.float32)[:, None]
    mask, labels = combine(masks, (1, 4), 0.5)
    np.testing.assert_array_equal(labels, [[1, 2, 0, 2]])
    np.testing.assert_array_equal(mask, masks.max(0))


def soft():
    """A sure object and a larger unsure one, each with a rim, far from each other."""
    mask = np.zeros((64, 128), np.float32)
    mask[8:24, 8:24], mask[24:26, 8:24] = 0.9, 0.3
    mask[8:40, 80:110], mask[40:42, 80:110] = 0.6, 0.4
    return mask, mask > 0.5, split(mask > 0.5)


def test_objects_are_measured_with_their_own_rims():
    mask, binary, labels = soft()
    found = choose(mask, binary, labels, MOST_OBJECTS, 0.0)
    assert found.boxes == [[80, 8, 110, 40], [8, 8, 24, 24]]
    assert found.areas == pytest.approx([960 / 8192, 256 / 8192])
    halves = mask[:, 64:], mask[:, :64]
    assert found.confidences == pytest.approx([expected_iou(each, each > 0.5) for each in halves])
    assert found.best == found.confidences[1]
    np.testing.assert_array_equal(found.labels, (labels == 1) * 1 + (labels == 2) * 2)
    np.testing.assert_array_equal(found.mask, mask)


@pytest.mark.parametrize(
    ("most", "least", "kept"), [(1, 0.0, slice(64, 128)), (9, 0.7, slice(0, 64))]
)
def test_what_is_left_out_is_gone_with_its_rim(most, least, kept):
    mask, binary, labels = soft()
    found = choose(mask, binary, labels, most, least)
    expected = np.zeros_like(mask)
    expected[:, kept] = mask[:, kept]
    np.testing.assert_array_equal(found.mask, expected)
    np.testing.assert_array_equal(found.labels, expected > 0.5)
    assert len(found.boxes) == 1


def test_no_object_is_an_answer():
    for mask, least in ((soft()[0], 0.95), (np.zeros((9, 9), np.float32), 0.0)):
        found = choose(mask, mask > 0.5, split(mask > 0.5), 3, least)
        assert (found.boxes, found.areas, found.confidences) == ([], [], [])
        assert not found.mask.any()
        assert not found.labels.any()
        assert found.best < least or found.best == 0


def test_confidence_is_the_iou_to_be_expected():
    mask = np.array([[0.9, 0.8, 0.3], [0.7, 0.1, 0.0]], np.float32)
    # (0.9 + 0.8 + 0.7) / (3 + 0.3 + 0.1)
    assert expected_iou(mask, mask > 0.5) == pytest.approx(2.4 / 3.4)
    assert expected_iou(mask, mask > 0.75) == pytest.approx(1.7 / (2 + 1.1))
    sure = (mask > 0.5).astype(np.float32)
    assert expected_iou(sure, sure > 0.5) == 1
    assert expected_iou(np.zeros((2, 3), np.float32), np.zeros((2, 3), bool)) == 0
