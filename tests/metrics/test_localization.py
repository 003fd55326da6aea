"""Boxes of masks by flood fill, IoU by counting pixels, CorLoc by hand and on LOST's boxes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.data.boxed import read_boxes
from sempart_jax.metrics.localization import box_iou, corloc, largest_box

SIDE = 12


@st.composite
def boxes(draw):
    """A box on a canvas of SIDE pixels that has at least one pixel."""
    x_min, y_min = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return x_min, y_min, draw(st.integers(x_min + 1, SIDE)), draw(st.integers(y_min + 1, SIDE))


BENCHMARKS = st.lists(st.tuples(boxes(), st.lists(boxes(), min_size=1, max_size=3)), min_size=1)


def pixels(box):
    x_min, y_min, x_max, y_max = box
    return {(row, column) for row in range(y_min, y_max) for column in range(x_min, x_max)}


def counted_iou(one, other):
    return len(pixels(one) & pixels(other)) / len(pixels(one) | pixels(other))


def flooded_box(mask):
    """The same box by flood fill from each pixel in reading order."""
    todo = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    best, best_area = None, 0
    while todo:
        component, edge = set(), [min(todo)]
        while edge:
            row, column = edge.pop()
            if (row, column) in todo:
                todo.remove((row, column))
                component.add((row, column))
                edge += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        rows, columns = zip(*component, strict=True)
        box = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        area = (box[2] - box[0]) * (box[3] - box[1])
        if area > best_area:
            best, best_area = box, area
    return best


def score(pairs):
    return corloc(
        {str(name): box for name, (box, _) in enumerate(pairs)},
        {str(name): objects for name, (_, objects) in enumerate(pairs)},
    )


def test_lost_on_voc07(reference_data):
    file = reference_data / "predictions/lost_voc07_trainval_boxes.json"
    predicted = json.loads(file.read_text())
    ground_truth = read_boxes("voc07", reference_data)
    assert len(ground_truth) == len(predicted) == 5011
    assert corloc(predicted, ground_truth) == pytest.approx(61.9038, abs=5e-5)


@settings(deadline=None, max_examples=60)
@given(box=boxes(), others=st.lists(boxes(), max_size=5))
def test_iou_equals_counting_pixels(box, others):
    expected = [counted_iou(box, other) for other in others]
    overlap = box_iou(np.array(box), np.array(others, int).reshape(-1, 4))
    assert overlap.dtype == np.float64
    np.testing.assert_allclose(overlap, expected, rtol=1e-12)
    for other, value in zip(others, overlap, strict=True):
        assert box_iou(np.array(other), np.array([box]))[0] == value


def test_iou_by_hand():
    # 4 x 3 and 3 x 4 pixels share 2 x 2: 4 / (12 + 12 - 4)
    box, others = np.array([0, 0, 4, 3]), np.array([[2, 1, 5, 5], [4, 0, 8, 3], [9, 9, 10, 10]])
    np.testing.assert_array_equal(box_iou(box, others), [0.2, 0.0, 0.0])
    np.testing.assert_allclose(box_iou(box + 0.25, others[:1]), 2.25**2 / (24 - 2.25**2))


def test_iou_of_a_box_without_area_is_zero():
    empty, full = np.array([2.0, 2.0, 2.0, 5.0]), np.array([0.0, 0.0, 9.0, 9.0])
    np.testing.assert_array_equal(box_iou(empty, np.stack([empty, full])), [0.0, 0.0])
    np.testing.assert_array_equal(box_iou(full, np.stack([empty, full])), [0.0, 1.0])


def test_iou_does_not_wrap_or_round():
    box, other = np.array([0, 0, 100, 250], np.uint8), np.array([[50, 0, 200, 250]], np.uint8)
    np.testing.assert_array_equal(box_iou(box, other), [0.25])
    # An area that float32 cannot hold.
    large = np.array([0, 0, 4097, 4099], np.float32)
    np.testing.assert_array_equal(box_iou(large, large[None]), [1.0])


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_largest_box_equals_flood_fill(height, width, share, seed):
    mask = np.random.default_rng(seed).uniform(size=(height, width)) < share
    box = largest_box(mask)
    assert box == flooded_box(mask)
    if box is not None:
        assert all(type(end) is int for end in box)
        # Moved and enlarged with the mask.
        moved = largest_box(np.pad(mask, ((2, 0), (3, 1))))
        assert moved == (box[0] + 3, box[1] + 2, box[2] + 3, box[3] + 2)
        enlarged = largest_box(np.kron(mask, np.ones((3, 2), bool)))
        assert enlarged == (box[0] * 2, box[1] * 3, box[2] * 2, box[3] * 3)


def test_the_largest_box_is_not_the_most_pixels():
    mask = np.zeros((10, 12), bool)
    mask[0:3, 0:3] = True  # nine pixels in a box of nine
    mask[4:9, 5] = mask[8, 5:9] = True  # eight pixels in a box of twenty
    assert largest_box(mask) == (5, 4, 9, 9)


def test_diagonal_neighbours_are_not_connected():
    mask = np.eye(5, dtype=bool)
    mask[0, 1] = True
    assert largest_box(mask) == (0, 0, 2, 2)


def test_first_of_equal_boxes_in_reading_order():
    mask = np.zeros((5, 5), bool)
    mask[2:4, 0] = mask[1:3, 4] = True
    assert largest_box(mask) == (4, 1, 5, 3)


def test_soft_mask_is_cut_at_one_half():
    mask = np.full((4, 6), 0.5, np.float32)
    assert largest_box(mask) is None
    mask[1, 2:4] = 0.51
    assert largest_box(mask) == (2, 1, 4, 2)


def test_corloc_by_hand():
    ground_truth = {
        "right": [(90, 90, 99, 99), (0, 0, 10, 10)],
        "wrong": [(0, 0, 10, 10)],
        "empty mask": [(0, 0, 10, 10)],
        "missing": [(0, 0, 10, 10)],
        "no area": [(0, 0, 10, 10)],
        "nothing to find": [],
    }
    predicted = {
        "right": [1, 0, 10.5, 10],
        "wrong": np.array([0, 0, 10, 4.9]),
        "empty mask": None,
        "no area": (5, 0, 5, 10),
        "nothing to find": (0, 0, 1, 1),
    }
    assert corloc(predicted, ground_truth) == 100 / 5


def test_an_iou_of_one_half_is_correct():
    truth = {"a": [(0, 0, 10, 10)]}
    assert corloc({"a": (0, 0, 10, 5)}, truth) == 100.0
    # With PASCAL's +1 this one would be correct too.
    assert corloc({"a": (0, 0, 10, 4.999)}, truth) == 0.0


@settings(deadline=None, max_examples=40)
@given(pairs=BENCHMARKS)
def test_corloc_equals_counting(pairs):
    right = sum(max(counted_iou(box, other) for other in objects) >= 0.5 for box, objects in pairs)
    assert score(pairs) == pytest.approx(100 * right / len(pairs))


@settings(deadline=None, max_examples=40)
@given(
    pairs=BENCHMARKS,
    shift=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    scale=st.integers(1, 20),
    seed=st.randoms(use_true_random=False),
)
def test_corloc_does_not_depend_on_place_size_and_order(pairs, shift, scale, seed):
    def moved(box):
        return tuple(scale * (end + by) for end, by in zip(box, shift * 2, strict=True))

    shuffled = [(box, seed.sample(objects, len(objects))) for box, objects in pairs]
    seed.shuffle(shuffled)
    assert score(shuffled) == score(pairs)
    assert score([(moved(box), [moved(other) for other in objects]) for box, objects in pairs]) == (
        score(pairs)
    )
    # Axes exchanged.
    turned = [(box[1::-1] + box[:1:-1], [o[1::-1] + o[:1:-1] for o in os]) for box, os in pairs]
    assert score(turned) == score(pairs)


def test_predictions_for_unknown_images_are_named():
    predicted = {f"im{number}": (0, 0, 1, 1) for number in range(8)}
    with pytest.raises(ValueError, match=r"7 of 8 predictions.*one benchmark and split") as caught:
        corloc(predicted, {"im0": [(0, 0, 1, 1)]})
    assert "im1, im2, im3, im4, im5 and 2 more" in str(caught.value)


@pytest.mark.parametrize("truth", [{}, {"a": []}])
def test_no_object_at_all(truth):
    with pytest.raises(ValueError, match=rf"none of the {len(truth)} images"):
        corloc({}, truth)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0, 0, 1), "four finite numbers"),
        ((0, 0, float("nan"), 1), "four finite numbers"),
        ((0, 0, float("inf"), 1), "four finite numbers"),
        ((5, 5, 4, 9), "ends before it starts"),
        ((5, 5, 9, 4), "ends before it starts"),
    ],
)
def test_boxes_that_are_none(box, message):
    good = (0, 0, 9, 9)
    with pytest.raises(ValueError, match=rf"predicted box of image a: .*{message}"):
        corloc({"a": box}, {"a": [good]})
    with pytest.raises(ValueError, match=rf"ground-truth box of image a: .*{message}"):
        corloc({"a": good}, {"a": [good, box]})
