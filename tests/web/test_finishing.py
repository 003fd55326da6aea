import io

import numpy as np
import pytest
from PIL import Image

from sempart_jax.predict.postprocessing import guided, postprocess
from sempart_jax.web.finishing import (
    PREVIEW_SIDE,
    Finish,
    cut_out,
    encode_png,
    example_scenes,
    finish_mask,
    on_checkerboard,
    preview,
)


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.random((height, width), dtype=np.float32)


def test_the_guided_filter_gets_what_was_chosen():
    image, mask = noise(20, 30)
    finished = finish_mask(image, mask, Finish(radius=4, eps=0.02, invert="never"))
    expected = np.clip(guided(image, mask, radius=4, eps=0.02), 0, 1)
    np.testing.assert_array_equal(finished.refined, expected)
    np.testing.assert_array_equal(finished.soft, mask)


@pytest.mark.parametrize("name", ["none", "bilateral"])
def test_other_refinements_are_those_of_the_command_line(name):
    image, mask = noise(20, 30)
    finished = finish_mask(image, mask, Finish(refine=name, radius=4, invert="never"))
    np.testing.assert_array_equal(finished.refined, postprocess(name, image, mask))


@pytest.mark.parametrize(
    ("invert", "level", "inverted"),
    [("auto", 0.7, True), ("auto", 0.3, False), ("never", 0.7, False), ("always", 0.3, True)],
)
def test_both_masks_are_of_the_chosen_side(invert, level, inverted):
    image, _ = noise(8, 8)
    mask = np.full((8, 8), level, np.float32)
    finished = finish_mask(image, mask, Finish(invert=invert))
    wanted = 1 - level if inverted else level
    np.testing.assert_allclose(finished.soft, wanted, atol=1e-6)
    np.testing.assert_allclose(finished.refined, wanted, atol=1e-6)


def test_a_cut_out_with_hard_edges_is_opaque_above_the_threshold():
    image = np.full((1, 3, 3), 200, np.uint8)
    mask = np.array([[0.2, 0.5, 0.51]], np.float32)
    assert cut_out(image, mask, 0.5)[..., 3].tolist() == [[0, 0, 255]]


def test_a_cut_out_with_soft_edges_is_as_opaque_as_its_mask():
    image = np.full((1, 3, 3), 200, np.uint8)
    mask = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert cut_out(image, mask).tolist() == [
        [[0, 0, 0, 0], [200, 200, 200, 128], [200, 200, 200, 255]]
    ]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_what_is_cut_away_is_not_in_the_cut_out(threshold):
    image, mask = noise(16, 16)
    mask[:8] = 0
    cut = cut_out(image, mask, threshold)
    assert not cut[:8].any()
    seen = cut[..., 3] > 0
    np.testing.assert_array_equal(cut[..., :3][seen], image[seen])


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_a_preview_keeps_the_shape_and_small_pictures(channels):
    small = np.zeros((10, 20, *channels), np.uint8)
    assert preview(small) is small
    assert preview(np.zeros((3000, 1500, *channels), np.uint8)).shape == (
        PREVIEW_SIDE,
        PREVIEW_SIDE // 2,
        *channels,
    )
    assert preview(np.zeros((1, 5000, *channels), np.uint8)).shape[:2] == (1, PREVIEW_SIDE)


def test_a_checkerboard_shows_only_where_a_cut_out_is_transparent():
    cut = np.zeros((64, 64, 4), np.uint8)
    cut[:32] = [10, 20, 30, 255]
    shown = on_checkerboard(cut)
    assert (shown[:32] == [10, 20, 30]).all()
    assert set(np.unique(shown[32:])) == {214, 255}
    assert shown[32, 0, 0] != shown[32, 2, 0]
    assert shown[32, 0, 0] == shown[34, 2, 0]


def test_a_checkerboard_is_mixed_in_proportion():
    cut = np.full((1, 1, 4), 51, np.uint8)
    # 0.2 * 51 + 0.8 * 255
    assert on_checkerboard(cut).tolist() == [[[214, 214, 214]]]


@pytest.mark.parametrize(("channels", "mode"), [((), "L"), ((3,), "RGB"), ((4,), "RGBA")])
def test_png_keeps_every_pixel(channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, *channels), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_examples_differ_and_are_always_the_same():
    scenes = example_scenes(3, 40)
    assert [scene.shape for scene in scenes] == [(40, 40, 3)] * 3
    assert (scenes[0] != scenes[1]).any()
    np.testing.assert_array_equal(scenes[2], example_scenes(3, 40)[2])
