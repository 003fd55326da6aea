"""The refinement of FOUND's masks against NumPy, and on pictures whose answer is known."""

import numpy as np
import pytest
import scipy.ndimage

from sempart_jax.baselines.bilateral import bilateral_solver
from sempart_jax.baselines.found_refinement import refine_patch_masks


def resize(mask, height, width):
    """Sample at pixel centres, clamped at the border; one output pixel at a time."""
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * mask.shape[0] / height - 0.5, 0), mask.shape[0] - 1)
            x = min(max((j + 0.5) * mask.shape[1] / width - 0.5, 0), mask.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, mask.shape[0] - 1), min(left + 1, mask.shape[1] - 1)
            upper = mask[top, left] * (1 - x + left) + mask[top, right] * (x - left)
            lower = mask[bottom, left] * (1 - x + left) + mask[bottom, right] * (x - left)
            result[i, j] = upper * (1 - y + top) + lower * (y - top)
    return result


def fill(mask):
    """Background is what is joined to the border by sides of pixels."""
    labels, _ = scipy.ndimage.label(np.pad(~mask, 1, constant_values=True))
    return (labels != labels[0, 0])[1:-1, 1:-1]


def reference(image, mask):
    enlarged = resize(mask.astype(np.float64), *image.shape[:2])
    binary = fill(bilateral_solver(image, enlarged, 16, 16, 8) > 0.5)
    enlarged = enlarged > 0.5
    union = (enlarged | binary).sum()
    overlap = (enlarged & binary).sum() / union if union else 0.0
    return (resize(binary.astype(np.float64), *mask.shape) > 0 if overlap > 0.5 else mask), overlap


def scene(seed, height=96, width=128):
    """Blobs of two colours under noise, and a blob's rough mask."""
    rng = np.random.default_rng(seed)
    blobs = scipy.ndimage.gaussian_filter(rng.normal(size=(height, width)), 10)
    inside = blobs > np.quantile(blobs, 0.6)
    colours = rng.integers(0, 256, (2, 3))
    image = colours[inside.astype(int)] + rng.normal(scale=12, size=(height, width, 3))
    patches = inside.reshape(height // 8, 8, width // 8, 8).mean((1, 3)) > 0.5
    return np.clip(image, 0, 255).astype(np.uint8), patches ^ (rng.random(patches.shape) < 0.1)


def test_against_numpy():
    pairs = [scene(seed) for seed in range(6)]
    # A mask of noise overlaps little with what the solver makes of it.
    pairs += [(pairs[0][0], np.random.default_rng(9).random((12, 16)) < 0.4)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    refined = refine_patch_masks(images, masks)
    expected, overlaps = zip(*(reference(*pair) for pair in pairs), strict=True)
    assert refined.dtype == bool
    assert min(overlaps) < 0.5 < max(overlaps), "both ways out must be walked"
    assert sum((before != after).any() for before, after in zip(masks, refined, strict=True)) > 3
    np.testing.assert_array_equal(refined, np.stack(expected))


def test_sides_that_no_patch_divides():
    image, mask = scene(1, 88, 120)
    mask = mask[:7, :9]
    np.testing.assert_array_equal(
        refine_patch_masks(image[None], mask[None])[0], reference(image, mask)[0]
    )


def uniform(height=64, width=64):
    return np.full((height, width, 3), 90, np.uint8)


def rectangle(top, bottom, left, right, height=8, width=8):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def paint(mask, foreground=(220, 30, 30)):
    image = uniform(8 * mask.shape[0], 8 * mask.shape[1])
    image[mask.repeat(8, 0).repeat(8, 1)] = foreground
    return image


def test_mask_grows_to_the_border_of_its_colour():
    # 12 of 16 patches of a square, and one outside
    square = rectangle(2, 6, 2, 6)
    mask = square & ~rectangle(2, 3, 2, 6)
    mask[3, 6] = True
    np.testing.assert_array_equal(refine_patch_masks(paint(square)[None], mask[None])[0], square)


def test_hole_is_filled():
    square, hole = rectangle(2, 10, 2, 10, 12, 12), rectangle(5, 7, 5, 7, 12, 12)
    # The hole has the background's colour, so that the solver leaves it.
    image = paint(square & ~hole)
    mask = square & ~hole
    solved = bilateral_solver(image, mask.repeat(8, 0).repeat(8, 1).astype(np.float32), 16, 16, 8)
    assert not (solved[44:52, 44:52] > 0.5).any()
    np.testing.assert_array_equal(refine_patch_masks(image[None], mask[None])[0], square)


def test_bay_at_the_border_is_no_hole():
    mask = rectangle(0, 8, 2, 10, 12, 12) & ~rectangle(0, 4, 5, 7, 12, 12)
    np.testing.assert_array_equal(refine_patch_masks(paint(mask)[None], mask[None])[0], mask)


def test_mask_that_its_refinement_does_not_overlap_stays():
    # Scattered over one colour, it is smoothed to less than a half everywhere.
    mask = np.zeros((8, 8), bool)
    mask[::3, ::3] = True
    np.testing.assert_array_equal(refine_patch_masks(uniform()[None], mask[None])[0], mask)


def test_overlap_of_exactly_a_half_is_none(monkeypatch):
    mask = rectangle(0, 8, 0, 4)
    answer = np.zeros((64, 64))

    def solved(image, target, **sigmas):
        assert sigmas == {"sigma_spatial": 16, "sigma_luma": 16, "sigma_chroma": 8}
        return answer

    monkeypatch.setattr("sempart_jax.baselines.found_refinement.bilateral_solver", solved)
    answer[:, :16] = 1.0
    np.testing.assert_array_equal(refine_patch_masks(uniform()[None], mask[None])[0], mask)
    answer[0, 16] = 1.0
    np.testing.assert_array_equal(
        refine_patch_masks(uniform()[None], mask[None])[0], rectangle(0, 8, 0, 2)
    )


def test_a_patch_is_foreground_where_any_of_its_centre_is(monkeypatch):
    mask = rectangle(0, 8, 0, 4)
    answer = mask.repeat(8, 0).repeat(8, 1).astype(np.float64)
    # Of patch (5, 6) one of the four pixels around its centre, of (1, 6) one beside them.
    answer[44, 51] = answer[13, 51] = 1.0
    monkeypatch.setattr(
        "sempart_jax.baselines.found_refinement.bilateral_solver", lambda *_, **__: answer
    )
    expected = mask.copy()
    expected[5, 6] = True
    np.testing.assert_array_equal(refine_patch_masks(uniform()[None], mask[None])[0], expected)


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_stay(value):
    image, _ = scene(0)
    mask = np.full((12, 16), value)
    np.testing.assert_array_equal(refine_patch_masks(image[None], mask[None])[0], mask)


def test_foreground_of_most_of_the_image_keeps_its_refinement():
    # 70 of 100 patches, less two
    object_ = rectangle(0, 10, 0, 7, 10, 10)
    mask = object_.copy()
    mask[4:6, 6] = False
    np.testing.assert_array_equal(refine_patch_masks(paint(object_)[None], mask[None])[0], object_)


def test_images_are_refined_one_by_one():
    pairs = [scene(seed) for seed in range(3)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    before = masks.copy()
    together = refine_patch_masks(images, masks)
    alone = [refine_patch_masks(image[None], mask[None])[0] for image, mask in pairs]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_array_equal(masks, before)


def test_no_images_have_no_masks():
    refined = refine_patch_masks(np.zeros((0, 16, 16, 3), np.uint8), np.zeros((0, 2, 2), bool))
    assert refined.shape == (0, 2, 2)


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_mask_too_few_is_refused():
    with pytest.raises(ValueError, match="one mask an image, got 1 for 2"):
        refine_patch_masks(np.stack([uniform(), uniform()]), np.zeros((1, 8, 8), bool))
