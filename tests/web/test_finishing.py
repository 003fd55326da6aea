import numpy as np
import pytest

from sempart_jax.kernels.host_guided_filter import guided
from sempart_jax.predict.postprocessing import postprocess
from sempart_jax.web.finishing import PREVIEW_SIDE, cut_out, finish_mask, preview


def noise(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.random((height, width), dtype=np.float32)


def test_masks_are_refined_as_on_the_command_line():
    image, mask = noise(20, 30)
    soft, refined = finish_mask(image, mask, radius=4, eps=0.02, invert="never")
    np.testing.assert_array_equal(soft, mask)
    np.testing.assert_array_equal(refined, np.clip(guided(image, mask, radius=4, eps=0.02), 0, 1))
    for name in ("none", "bilateral"):
        _, refined = finish_mask(image, mask, refine=name, radius=4, invert="never")
        np.testing.assert_array_equal(refined, postprocess(name, image, mask))


@pytest.mark.parametrize(
    ("invert", "level", "inverted"),
    [("auto", 0.7, True), ("auto", 0.3, False), ("never", 0.7, False), ("always", 0.3, True)],
)
def test_both_masks_are_of_the_chosen_side(invert, level, inverted):
    image, _ = noise(8, 8)
    wanted = 1 - level if inverted else level
    for mask in finish_mask(image, np.full((8, 8), level, np.float32), invert=invert):
        np.testing.assert_allclose(mask, wanted, atol=1e-6)


def test_the_threshold_makes_edges_hard():
    image = np.full((1, 3, 3), 200, np.uint8)
    mask = np.array([[0.2, 0.5, 0.51]], np.float32)
    assert cut_out(image, mask, 0.5)[..., 3].tolist() == [[0, 0, 255]]
    assert cut_out(image, mask)[..., 3].tolist() == [[51, 128, 130]]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_what_is_cut_away_is_not_in_the_cut_out(threshold):
    image, mask = noise(16, 16)
    mask[:8] = 0
    cut = cut_out(image, mask, threshold)
    assert not cut[:8].any()
    seen = cut[..., 3] > 0
    np.testing.assert_array_equal(cut[..., :3][seen], image[seen])


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_cut_out_is_never_more_opaque_than_its_picture(threshold):
    image, mask = noise(16, 16)
    alpha = image[..., 0]
    cut = cut_out(image, mask, threshold, alpha)[..., 3]
    np.testing.assert_array_equal(cut, np.minimum(cut_out(image, mask, threshold)[..., 3], alpha))


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_a_preview_keeps_the_shape_and_small_pictures(channels):
    small = np.zeros((10, 20, *channels), np.uint8)
    assert preview(small) is small
    shape = (PREVIEW_SIDE, PREVIEW_SIDE // 2, *channels)
    assert preview(np.zeros((3000, 1500, *channels), np.uint8)).shape == shape
    assert preview(np.zeros((1, 5000, *channels), np.uint8)).shape[:2] == (1, PREVIEW_SIDE)
