"""Fast bilateral solver: against the released implementation and a dense one written out here."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sempart_jax.baselines.bilateral import bilateral_grid, bilateral_solver, bistochastize

CONVERGED = {"tolerance": 1e-13, "max_iterations": 5000}


def smooth_scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image of slow colour gradients with a little noise, whose cells have neighbours; a mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([40 + 2 * rows, 60 + 3 * columns, 80 + rows + columns], axis=-1)
    image = np.clip(image + rng.integers(-2, 3, image.shape), 0, 255).astype(np.uint8)
    return image, rng.uniform(size=(height, width))


def reference_system(image, target, sigmas, smoothness=256.0, confidence=0.999, iterations=10):
    """Dense matrix, right-hand side and vertex of each pixel, by loops over pixels and cells."""
    spatial, luma, chroma = sigmas
    cells = []
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            red, green, blue = (float(value) for value in image[y, x])
            yuv = (
                0.299 * red + 0.587 * green + 0.114 * blue,
                128 - 0.168736 * red - 0.331264 * green + 0.5 * blue,
                128 + 0.5 * red - 0.418688 * green - 0.081312 * blue,
            )
            # Far less than the millionth that separates two luma values; it undoes rounding below
            # cell boundaries.
            luma_cell, *chroma_cells = (
                int((value + 1e-9) // sigma)
                for value, sigma in zip(yuv, (luma, chroma, chroma), strict=True)
            )
            cells.append((int(x // spatial), int(y // spatial), luma_cell, *chroma_cells))
    index = {cell: number for number, cell in enumerate(sorted(set(cells)))}
    vertices = np.array([index[cell] for cell in cells])
    blur = 10 * np.eye(len(index))
    for cell, number in index.items():
        for axis in range(5):
            for step in (-1, 1):
                neighbour = (*cell[:axis], cell[axis] + step, *cell[axis + 1 :])
                if neighbour in index:
                    blur[number, index[neighbour]] = 1
    splat = np.eye(len(index))[:, vertices]
    mass = splat.sum(1)
    scale = np.ones(len(index))
    for _ in range(iterations):
        scale = np.sqrt(scale * mass / (blur @ scale))
    affinity = scale[:, None] * blur * scale
    matrix = smoothness * (np.diag(affinity.sum(1)) - affinity) + np.diag(confidence * mass)
    return matrix, confidence * splat @ target.ravel(), splat, vertices.reshape(target.shape)


@pytest.mark.parametrize("sigmas", [(24, 4, 4), (16, 16, 8)])
def test_golden_mask(golden, sigmas):
    values = golden("bilateral")
    name = "_".join(map(str, sigmas))
    soft = bilateral_solver(values["image"], values["target"], *sigmas)
    np.testing.assert_allclose(soft, values[f"soft_{name}"], rtol=0, atol=1e-10)
    # The released binary mask: cut at one half, holes filled, the largest 4-connected component.
    # (It takes the second most frequent label, which is that as long as background prevails.)
    labels, _ = scipy.ndimage.label(scipy.ndimage.binary_fill_holes(soft > 0.5))
    sizes = np.bincount(labels.ravel())
    largest = labels == np.argsort(sizes, kind="stable")[-2]
    np.testing.assert_array_equal(largest, values[f"binary_{name}"])


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    sigmas=st.sampled_from([(24, 4, 4), (3, 4, 4), (2.5, 16, 8), (1, 6, 7.5)]),
    seed=st.integers(0, 2**31),
)
def test_converged_mask_solves_the_linear_system(height, width, sigmas, seed):
    image, target = smooth_scene(height, width, seed)
    matrix, right_hand_side, _, vertices = reference_system(image, target, sigmas)
    exact = scipy.sparse.linalg.spsolve(scipy.sparse.csc_array(matrix), right_hand_side)
    soft = bilateral_solver(image, target, *sigmas, **CONVERGED)
    np.testing.assert_allclose(soft, np.atleast_1d(exact)[vertices], rtol=0, atol=1e-9)


def test_constants_of_the_system_can_be_chosen():
    image, target = smooth_scene(12, 15)
    sigmas = (4, 8, 8)
    matrix, right_hand_side, _, vertices = reference_system(image, target, sigmas, 7.0, 0.3, 2)
    soft = bilateral_solver(
        image,
        target,
        *sigmas,
        smoothness=7,
        confidence=0.3,
        bistochastic_iterations=2,
        **CONVERGED,
    )
    exact = np.linalg.solve(matrix, right_hand_side)
    np.testing.assert_allclose(soft, exact[vertices], rtol=0, atol=1e-9)


@pytest.mark.parametrize("min_diagonal", [1e-5, 1e9])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_stops_after_the_wanted_steps_of_preconditioned_conjugate_gradients(steps, min_diagonal):
    image, target = smooth_scene(12, 15)
    sigmas = (4, 8, 8)
    matrix, right_hand_side, splat, vertices = reference_system(image, target, sigmas)
    divisor = np.maximum(np.diag(matrix), min_diagonal)
    solution = splat @ target.ravel() / splat.sum(1)
    residual = right_hand_side - matrix @ solution
    direction = residual / divisor
    for _ in range(steps):
        energy = residual @ (residual / divisor)
        step = energy / (direction @ matrix @ direction)
        solution = solution + step * direction
        residual = residual - step * matrix @ direction
        direction = residual / divisor + residual @ (residual / divisor) / energy * direction
    soft = bilateral_solver(image, target, *sigmas, min_diagonal=min_diagonal, max_iterations=steps)
    np.testing.assert_allclose(soft, solution[vertices], rtol=0, atol=1e-9)


def test_stops_at_the_tolerance():
    image, target = smooth_scene(12, 15)
    matrix, right_hand_side, _, vertices = reference_system(image, target, (4, 8, 8))

    def relative_residual(**constants):
        solution = np.zeros(len(matrix))
        solution[vertices] = bilateral_solver(
            image, target, 4, 8, 8, max_iterations=5000, **constants
        )
        residual = matrix @ solution - right_hand_side
        return np.linalg.norm(residual) / np.linalg.norm(right_hand_side)

    assert 1e-3 < relative_residual(tolerance=1e-1) < 1e-1
    assert 1e-5 < relative_residual(tolerance=1e-3) < 1e-3
    assert 1e-7 < relative_residual() < 1e-5


def test_splat_is_the_transpose_of_slice():
    image, pixels = smooth_scene(13, 21)
    grid = bilateral_grid(image, 4, 8, 8)
    vertices = np.random.default_rng(1).normal(size=grid.blur.shape[0])
    assert 1 < len(vertices) < pixels.size
    assert grid.slice(vertices).shape == pixels.shape
    np.testing.assert_allclose(
        grid.splat(pixels) @ vertices, np.sum(pixels * grid.slice(vertices)), rtol=1e-12
    )


def test_blur_is_symmetric_with_at_most_ten_neighbours():
    image, _ = smooth_scene(13, 21)
    blur = bilateral_grid(image, 4, 8, 8).blur.toarray()
    np.testing.assert_array_equal(blur, blur.T)
    np.testing.assert_array_equal(np.diag(blur), 10)
    neighbours = blur - 10 * np.eye(len(blur))
    assert set(np.unique(neighbours)) == {0, 1}
    assert 2 <= neighbours.sum(1).max() <= 10


def test_cells_at_opposite_borders_are_no_neighbours():
    image = np.zeros((2, 5, 3), np.uint8)
    blur = bilateral_grid(image, 1, 4, 4).blur.toarray()
    # Two rows of five joined as a lattice: 2 * 4 edges along x, 5 along y, each seen from both ends
    assert np.sum(blur == 1) == 2 * (2 * 4 + 5)


def test_bistochastic_scales_keep_the_mass_of_each_vertex():
    image, _ = smooth_scene(13, 21)
    grid = bilateral_grid(image, 4, 8, 8)
    pixels = grid.splat(np.ones(image.shape[:2]))
    scale, mass = bistochastize(grid, iterations=10)
    scaled = scale[:, None] * grid.blur.toarray() * scale
    np.testing.assert_allclose(scaled.sum(0), mass, rtol=1e-12)
    np.testing.assert_allclose(scaled.sum(1), mass, rtol=1e-12)
    np.testing.assert_allclose(mass, pixels, rtol=0.02)
    _, mass_of_one = bistochastize(grid, iterations=1)
    assert np.abs(mass - pixels).max() < 0.1 * np.abs(mass_of_one - pixels).max()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_masks_are_kept(value):
    image, _ = smooth_scene(30, 40)
    soft = bilateral_solver(image, np.full((30, 40), value, np.float32))
    np.testing.assert_allclose(soft, np.float32(value), rtol=0, atol=1e-12)


def test_solver_is_linear_in_the_mask_when_converged():
    image, first = smooth_scene(10, 12)
    second = np.random.default_rng(5).uniform(size=first.shape)
    parts = [bilateral_solver(image, mask, 4, 8, 8, **CONVERGED) for mask in (first, second)]
    mixed = bilateral_solver(image, 0.3 * first + 0.7 * second, 4, 8, 8, **CONVERGED)
    np.testing.assert_allclose(mixed, 0.3 * parts[0] + 0.7 * parts[1], rtol=0, atol=1e-9)


def test_mask_follows_the_edge_of_the_image():
    image = np.full((60, 80, 3), 40, np.uint8)
    image[:, 40:] = 200
    truth = np.arange(80)[None] >= np.full((60, 1), 40)
    # A mask whose edge is soft and eight pixels too far left.
    target = np.clip((np.arange(80) - 20) / 24, 0, 1) * np.ones((60, 1))
    soft = bilateral_solver(image, target)
    assert np.sum((target > 0.5) != truth) == 60 * 7
    np.testing.assert_array_equal(soft > 0.5, truth)
    assert np.all(soft[:, 40] - soft[:, 39] > 0.4)
    assert np.ptp(soft[:, :40]) < 0.5 * np.ptp(target[:, :40])


def test_grey_levels_share_the_neutral_chroma_cell():
    # 128 is a multiple of the cell's side, so the least rounding would split the greys in two.
    image = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=-1)
    grid = bilateral_grid(image, 256, 4, 4)
    np.testing.assert_array_equal(grid.vertex_of_pixel[0], np.arange(256) // 4)
    np.testing.assert_array_equal(
        grid.blur.toarray(), 10 * np.eye(64) + np.eye(64, k=1) + np.eye(64, k=-1)
    )


@settings(deadline=None, max_examples=15)
@given(level=st.integers(0, 255), height=st.integers(1, 24), width=st.integers(1, 24))
def test_flat_image_within_one_cell_gives_the_mean(level, height, width):
    image = np.full((height, width, 3), level, np.uint8)
    target = np.random.default_rng(level).uniform(size=(height, width)).astype(np.float32)
    np.testing.assert_allclose(
        bilateral_solver(image, target), target.astype(np.float64).mean(), rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (30, 70)])
def test_shapes_and_dtypes(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    target = np.random.default_rng(1).uniform(size=shape) > 0.5
    soft = bilateral_solver(image, target)
    assert soft.shape == shape
    assert soft.dtype == np.float64
    for dtype in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(bilateral_solver(image, target.astype(dtype)), soft)
    if shape == (1, 1):
        np.testing.assert_allclose(soft, target, atol=1e-12)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("image", "target", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4)), r"\(5, 4\).*\(4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 1)), r"\(4, 5, 1\).*\(4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), r"uint8.*\(4, 5\)"),
        (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5)), r"image.*float32.*\(4, 5, 3\)"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5)), r"image.*uint8.*\(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5)), r"image.*\(4, 5, 4\)"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5)), r"image.*\(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), np.nan), "NaN"),
    ],
)
def test_wrong_arrays_are_named_with_their_shapes(image, target, message):
    with pytest.raises(ValueError, match=message):
        bilateral_solver(image, target)


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"sigma_spatial": 0}, "sigma_spatial must be positive, got 0"),
        ({"sigma_luma": -4}, "sigma_luma must be positive, got -4"),
        ({"sigma_chroma": float("nan")}, "sigma_chroma must be positive, got nan"),
        ({"sigma_chroma": 1e-9}, "too large to number"),
        ({"confidence": 0}, "confidence must be positive, got 0"),
        ({"smoothness": -1}, "smoothness must not be negative, got -1"),
    ],
)
def test_wrong_constants_are_named(constants, message):
    image, target = smooth_scene(8, 8)
    with pytest.raises(ValueError, match=message):
        bilateral_solver(image, target, **constants)
