"""Components and confidence of masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sempart_jax.metrics.localization import largest_box
from sempart_jax.segmentation.measures import expected_iou, keep_component, largest_component


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_largest_component_is_that_of_the_largest_box(binary):
    component = largest_component(binary)
    assert not np.any(component & ~binary)
    assert largest_box(component) == largest_box(binary)


def test_other_components_and_their_rims_are_removed():
    mask = np.zeros((64, 64), np.float32)
    mask[8:24, 8:24] = 0.9
    mask[24:26, 8:24] = 0.3
    mask[40:48, 40:48] = 0.8
    mask[48:50, 40:48] = 0.4
    # Beside the component, but one of its own: the radius of 2 reaches it.
    mask[8:10, 25:27] = 0.7
    binary = mask > 0.5
    component = largest_component(binary)
    assert component.sum() == 256
    kept = keep_component(mask, binary, component)
    expected = mask.copy()
    expected[40:50, 40:48] = 0
    expected[8:10, 25:27] = 0
    np.testing.assert_array_equal(kept, expected)
    assert kept.dtype == np.float32


def test_confidence_is_the_iou_to_be_expected():
    mask = np.array([[0.9, 0.8, 0.3], [0.7, 0.1, 0.0]], np.float32)
    # (0.9 + 0.8 + 0.7) / (3 + 0.3 + 0.1)
    assert expected_iou(mask, mask > 0.5) == pytest.approx(2.4 / 3.4)
    assert expected_iou(mask, mask > 0.75) == pytest.approx(1.7 / (2 + 1.1))
    sure = (mask > 0.5).astype(np.float32)
    assert expected_iou(sure, sure > 0.5) == 1
    assert expected_iou(np.zeros((2, 3), np.float32), np.zeros((2, 3), bool)) == 0
