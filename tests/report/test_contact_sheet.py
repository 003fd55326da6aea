import numpy as np
import pytest

from sempart_jax.predict.load import network_segmenter
from sempart_jax.report.contact_sheet import draw_contact_sheet
from tests.small_model import small_network


def test_rows_are_pictures_and_the_cut_out_is_on_white():
    segmenter = network_segmenter(small_network(), refine="none", invert="never")
    segmenter.predictor = lambda images: [np.eye(2).repeat(20, 0).repeat(20, 1) for _ in images]
    images = [np.full((40, 40, 3), colour, np.uint8) for colour in [(200, 0, 0), (0, 0, 200)]]
    sheet = draw_contact_sheet(segmenter, images)
    row = (sheet.shape[0] - 30) // 2
    quarter = sheet.shape[1] // 4
    for place, image in enumerate(images):
        middle = 30 + place * row + row // 2
        for column, mask in ((0, None), (1, 255), (2, 255), (3, None)):
            left = column * quarter + quarter // 4
            wanted = image[0, 0] if mask is None else np.full(3, mask)
            np.testing.assert_allclose(sheet[middle - row // 4, left], wanted, atol=1)
        right = 3 * quarter + 3 * quarter // 4
        np.testing.assert_array_equal(sheet[middle - row // 4, right], 255)


def test_it_needs_pictures():
    segmenter = network_segmenter(small_network())
    with pytest.raises(ValueError, match="columns of one length above 0"):
        draw_contact_sheet(segmenter, [])
