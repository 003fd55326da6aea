"""Saliency priors against plain loops, dense solves and exhaustive search, and on drawn images."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
from scipy.spatial.distance import mahalanobis

from sempart_jax.baselines.saliency import automata, background, barrier, graph_cut, ranking
from sempart_jax.baselines.saliency.priors import saliency_priors
from sempart_jax.baselines.saliency.superpixels import describe, rgb_to_lab, slic, touching
from sempart_jax.kernels.scales import otsu, unit_range

PRIORS = ("robust_background", "manifold_ranking", "cellular_automata", "minimum_barrier")


def draw(height=96, width=128, rows=slice(30, 66), columns=slice(44, 90), noise=0.02):
    """Draw a reddish object on a bluish ground, and return it with its mask."""
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    image = np.where(mask[..., None], [0.8, 0.3, 0.2], [0.3, 0.5, 0.7])
    image += np.random.default_rng(0).normal(scale=noise, size=image.shape)
    return np.clip(image, 0, 1).astype(np.float32), mask


def small_graph(seed=0):
    """Superpixels of smooth noise, few enough for loops."""
    rng = np.random.default_rng(seed)
    image = scipy.ndimage.gaussian_filter(rng.random((20, 26, 3)), (3, 3, 0))
    lab = rgb_to_lab(unit_range(image))
    rows, columns = np.indices((20, 26))
    return describe(rows // 4 * 6 + np.minimum(columns // 4, 5), lab), lab


def intersection_over_union(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ([1, 1, 1], [100, 0, 0]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 0, 0], [53.24, 80.09, 67.20]),
        ([0, 0, 1], [32.30, 79.19, -107.86]),
        ([0.5, 0.5, 0.5], [53.39, 0, 0]),
        ([0.02, 0.02, 0.02], [1.40, 0, 0]),
    ],
)
def test_lab_of_known_colours(rgb, lab):
    np.testing.assert_allclose(rgb_to_lab(np.array([[rgb]], np.float64))[0, 0], lab, atol=0.02)


def slow_slic(lab, cell, iterations):
    height, width = lab.shape[:2]
    rows, columns = height // cell, width // cell
    points = np.array(
        [[*lab[r, c], r * 10 / cell, c * 10 / cell] for r in range(height) for c in range(width)]
    )
    own = [(r // cell, c // cell) for r in range(height) for c in range(width)]
    chosen = [r * columns + c for r, c in own]
    for _ in range(iterations + 1):
        centres = {k: points[[x == k for x in chosen]].mean(axis=0) for k in set(chosen)}
        chosen = [
            min(
                (
                    i * columns + j
                    for i in range(max(0, r - 1), min(rows, r + 2))
                    for j in range(max(0, c - 1), min(columns, c + 2))
                    if i * columns + j in centres
                ),
                key=lambda k: ((point - centres[k]) ** 2).sum(),
            )
            for (r, c), point in zip(own, points, strict=True)
        ]
    return np.array(chosen).reshape(height, width)


def test_slic_is_k_means_from_a_grid():
    image, _ = draw(36, 60, slice(10, 25), slice(20, 41), noise=0.1)
    lab = rgb_to_lab(image.astype(np.float64))
    expected = slow_slic(lab, 3, 1)
    labels = slic(lab, iterations=2)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    together = labels[:, 1:] == labels[:, :-1]
    assert (together == (expected[:, 1:] == expected[:, :-1])).mean() > 0.995


@pytest.mark.parametrize("size", [(128, 171), (640, 480), (1000, 40), (60, 60)])
def test_an_image_of_any_size_has_about_two_hundred_superpixels(size):
    labels = slic(np.random.default_rng(0).random((*size, 3)) * 10)
    assert 180 <= labels.max() + 1 <= 280


def test_superpixels_are_described():
    labels = np.array([[0, 0, 1], [2, 0, 1]])
    lab = np.arange(18.0).reshape(2, 3, 3)
    found = describe(labels, lab)
    np.testing.assert_array_equal(found.sizes, [3, 2, 1])
    np.testing.assert_allclose(found.lab, [[5, 6, 7], [10.5, 11.5, 12.5], [9, 10, 11]])
    np.testing.assert_allclose(found.place * 3, [[1 / 3, 2 / 3], [0.5, 2], [1, 0]])
    np.testing.assert_array_equal(found.sides, [[1, 1, 0], [1, 1, 1], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(found.adjacent, [[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    assert found.border.all()
    np.testing.assert_array_equal(found.joined, ~np.eye(3, dtype=bool))
    np.testing.assert_allclose(found.mean(np.array([[3.0, 0, 1], [5, 0, 2]])), [1, 1.5, 5])


def test_inner_superpixels_are_joined_over_two_steps():
    graph, _ = small_graph()
    inside = 2 * 6 + 2
    rows, columns = np.divmod(np.flatnonzero(graph.joined[inside]), 6)
    assert set(np.abs(rows - 2) + np.abs(columns - 2)) == {1, 2}
    assert len(rows) == 12


@pytest.mark.parametrize("seed", [0, 1])
def test_robust_background_minimises_the_energy_of_its_paper(seed):
    graph, _ = small_graph(seed)
    count, border = len(graph.sizes), np.flatnonzero(graph.border)
    path = np.full((count, count), np.inf)
    for i, j in itertools.product(range(count), repeat=2):
        if graph.adjacent[i, j] or (i in border and j in border):
            path[i, j] = max(np.linalg.norm(graph.lab[i] - graph.lab[j]) - 3, 0)
    np.fill_diagonal(path, 0)
    for _ in range(count):  # Bellman and Ford
        path = np.min(path[:, :, None] + path[None], axis=1)
    similar = np.exp(-(path**2) / 2 / 7**2)
    connectivity = similar[:, border].sum(axis=1) / np.sqrt(similar.sum(axis=1))
    np.testing.assert_allclose(background.boundary_connectivity(graph), connectivity, rtol=1e-5)
    probability = 1 - np.exp(-(connectivity**2) / 2)
    contrast = np.array(
        [
            sum(
                np.linalg.norm(graph.lab[i] - graph.lab[j])
                * np.exp(-((graph.place[i] - graph.place[j]) ** 2).sum() / 2 / 0.25**2)
                * probability[j]
                for j in range(count)
            )
            for i in range(count)
        ]
    )
    contrast = (contrast - contrast.min()) / np.ptp(contrast)
    contrast[contrast < otsu(contrast, graph.sizes)] = 0
    rows, targets = [], []
    for i in range(count):
        for weight, target in ((probability[i], 0), (contrast[i], 1)):
            rows.append(np.sqrt(weight) * np.eye(count)[i])
            targets.append(np.sqrt(weight) * target)
        for j in range(i):
            if graph.joined[i, j]:
                distance = ((graph.lab[i] - graph.lab[j]) ** 2).sum()
                weight = np.exp(-distance / 2 / 10**2) + 0.1
                rows.append(np.sqrt(weight) * (np.eye(count)[i] - np.eye(count)[j]))
                targets.append(0)
    solved = np.linalg.lstsq(np.array(rows), np.array(targets))[0]
    expected = (solved - solved.min()) / np.ptp(solved)
    np.testing.assert_allclose(background.robust_background(graph), expected, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_manifold_ranking_is_that_of_each_query_alone(seed):
    graph, _ = small_graph(seed)
    count = len(graph.sizes)
    edges = np.argwhere(graph.joined)
    distance = {(i, j): np.linalg.norm(graph.lab[i] - graph.lab[j]) for i, j in edges}
    weights = np.zeros((count, count))
    for edge, length in distance.items():
        # Pairs without an edge count as 0 in the range.
        weights[edge] = np.exp(-10 * length / max(distance.values()))
    system = np.diag(weights.sum(axis=1)) - 0.99 * weights

    def rank(queries):
        total = np.zeros(count)
        for query in np.flatnonzero(queries):
            answer = np.linalg.solve(system, np.eye(count)[query])
            answer[query] = 0
            total += answer
        return (total - total.min()) / np.ptp(total)

    first = np.prod([1 - rank(side) for side in graph.sides], axis=0)
    expected = rank(first > first.mean())
    np.testing.assert_allclose(ranking.manifold_ranking(graph), expected, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_cellular_automata_take_their_steps_one_by_one(seed):
    graph, _ = small_graph(seed)
    count = len(graph.sizes)
    color = (graph.lab - graph.lab.min(axis=0)) / np.ptp(graph.lab, axis=0)
    influence = np.zeros((count, count))
    for i, j in np.argwhere(graph.joined):
        influence[i, j] = np.exp(-np.linalg.norm(color[i] - color[j]) / 0.1)
    coherence = 1 / influence.max(axis=1)
    coherence = 0.6 * (coherence - coherence.min()) / np.ptp(coherence) + 0.2
    state = automata.background_contrast(graph)
    for _ in range(20):
        state = [
            coherence[i] * state[i]
            + (1 - coherence[i])
            * sum(influence[i, j] * state[j] for j in range(count))
            / influence[i].sum()
            for i in range(count)
        ]
    expected = (np.array(state) - min(state)) / np.ptp(state)
    np.testing.assert_allclose(automata.cellular_automata(graph), expected, atol=1e-10)


def test_automata_start_from_the_contrast_to_clusters_of_the_border():
    """A border of three colours, which are the clusters."""
    labels = np.arange(30).reshape(5, 6)
    lab = np.full((5, 6, 3), [60.0, 10, 10])
    lab[0], lab[-1] = [20, 0, 0], [90, 5, 0]
    lab[2, 2] = [50, 60, 40]
    graph = describe(labels, lab)
    color = (graph.lab - graph.lab.min(axis=0)) / np.ptp(graph.lab, axis=0)
    expected = np.zeros(30)
    for lightness in (20, 60, 90):
        members = [i for i in range(30) if graph.border[i] and graph.lab[i, 0] == lightness]
        difference, near = np.zeros(30), np.zeros(30)
        for i, j in itertools.product(range(30), members):
            distance = np.linalg.norm(color[i] - color[j])
            difference[i] += 1 / (np.exp(-distance / (2 * 0.2**2)) + 10) / len(members)
            away = ((graph.place[i] - graph.place[j]) ** 2).sum()
            near[i] += np.exp(-away / (2 * 1.3)) / len(members)
        expected += unit_range(difference) * unit_range(near)
    found = automata.background_contrast(graph)
    np.testing.assert_allclose(found, unit_range(expected), atol=1e-10)
    assert found.argmax() == 2 * 6 + 2


def slow_barrier(image, passes):
    """Algorithm 1 of the paper, pixel by pixel; of equal barriers that of the smaller maximum."""
    height, width = image.shape
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False
    state = [
        [(0, image[r, c], image[r, c]) if border[r, c] else (256, 0, 0) for c in range(width)]
        for r in range(height)
    ]
    for scan in range(passes):
        step = -1 if scan % 2 else 1
        for r in range(height)[::step]:
            for c in range(width)[::step]:
                for row, column in ((r - step, c), (r, c - step)):
                    if 0 <= row < height and 0 <= column < width and state[row][column][0] < 256:
                        _, high, low = state[row][column]
                        high, low = max(high, image[r, c]), min(low, image[r, c])
                        state[r][c] = min(state[r][c], (high - low, high, low))
    return np.array([[pixel[0] for pixel in row] for row in state])


def exact_barrier(image):
    """Try all ranges of levels: a path exists within one whose pixels reach the border."""
    best = np.full(image.shape, 256)
    for low, high in itertools.combinations_with_replacement(np.unique(image), 2):
        labels, _ = scipy.ndimage.label((image >= low) & (image <= high))
        edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        reached = (labels > 0) & np.isin(labels, edge)
        best[reached] = np.minimum(best[reached], int(high) - int(low))
    return best


@pytest.mark.parametrize("size", [(6, 6), (5, 9), (9, 4), (1, 7), (7, 1), (2, 2)])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_barrier_distance_is_that_of_raster_scans(size, passes):
    channels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    found = barrier.barrier_distance(channels, passes)
    for k in range(3):
        expected = slow_barrier(channels[..., k].astype(int), passes)
        np.testing.assert_array_equal(found[..., k], expected)


def test_barrier_distance_is_nearly_the_exact_one():
    rng = np.random.default_rng(0)
    exact, found = [], []
    for _ in range(10):
        image = rng.integers(0, 256, (6, 6)).astype(np.uint8)
        exact.append(exact_barrier(image))
        found.append(barrier.barrier_distance(image[..., None])[..., 0])
    exact, found = np.array(exact), np.array(found)
    assert (found >= exact).all()
    # One scan gives 0.73, two 0.92, and six no more than three.
    assert (found == exact).mean() > 0.93


def test_backgroundness_is_the_mahalanobis_distance_to_border_regions():
    lab = np.random.default_rng(0).normal(size=(20, 30, 3)) * [20, 5, 9]
    distances = []
    for region in (lab[:2], lab[-2:], lab[:, :3], lab[:, -3:]):
        colors = region.reshape(-1, 3)
        inverse = np.linalg.inv(np.cov(colors.T, bias=True) + np.eye(3))
        away = [mahalanobis(x, colors.mean(axis=0), inverse) for x in lab.reshape(-1, 3)]
        distances.append(unit_range(np.array(away)))
    total = sum(distances) - np.max(distances, axis=0)
    expected = unit_range(total).reshape(20, 30)
    np.testing.assert_allclose(barrier.backgroundness(lab), expected, atol=1e-9)


def test_minimum_barrier_adds_both():
    graph, lab = small_graph()
    levels = np.rint((lab + np.array([0, 128, 128])) * [2.55, 1, 1]).astype(int)
    distance = sum(slow_barrier(levels[..., k], 3) for k in range(3)).astype(float)
    total = unit_range(distance) + barrier.backgroundness(lab)
    means = np.array([total[graph.labels == k].mean() for k in range(len(graph.sizes))])
    expected = (means - means.min()) / np.ptp(means)
    np.testing.assert_allclose(barrier.minimum_barrier(graph, lab), expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_minimum_cut_is_the_best_of_all_choices(seed):
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=8)
    first, second = np.array(list(itertools.combinations(range(8), 2))).T
    weights = rng.random(len(first)) * (rng.random(len(first)) < 0.5)

    def total(chosen):
        return gain[chosen].sum() - weights[chosen[first] != chosen[second]].sum()

    choices = [np.array(choice, bool) for choice in itertools.product((0, 1), repeat=8)]
    found = graph_cut.minimum_cut(gain, first, second, weights)
    np.testing.assert_array_equal(found, max(choices, key=total))


def test_touching_superpixels_share_so_many_edges():
    first, second, length = touching(np.array([[0, 0, 1], [2, 0, 1]]))
    np.testing.assert_array_equal(np.stack([first, second, length]), [[0, 0], [1, 2], [2, 2]])


def test_grab_cut_follows_colour_and_keeps_what_is_sure():
    image, mask = draw()
    lab = rgb_to_lab(image).astype(np.float64)
    graph = describe(slic(lab), lab)
    inside = graph.mean(mask.astype(np.float64))
    # Half of the object is not found at first, and one superpixel of the ground is.
    left = graph.place[:, 1] * 128 < 66
    saliency = np.where((inside > 0.5) & left, 0.7, 0.3)
    stray = np.flatnonzero(inside == 0)[0]
    saliency[stray] = 0.7
    found = graph_cut.grab_cut(graph, saliency)[graph.labels]
    assert intersection_over_union(found, mask) > 0.9
    saliency[stray] = 0.9
    sure = graph_cut.grab_cut(graph, saliency)
    assert sure[stray]
    assert not graph_cut.grab_cut(graph, np.where(sure, 0.1, 0.2)).any()
    assert graph_cut.grab_cut(graph, np.full(len(saliency), 0.6)).all()


def test_priors_are_weighted_towards_the_middle_and_calibrated():
    image, _ = draw(noise=0.1)
    result = saliency_priors(image)
    lab = rgb_to_lab(image).astype(np.float64)
    labels = slic(lab)
    expected = np.zeros(labels.shape)
    for name in PRIORS:
        weighted = np.zeros(labels.shape)
        for k in range(labels.max() + 1):
            rows, columns = np.nonzero(labels == k)
            away = np.hypot((rows + 0.5) / 96 - 0.5, (columns + 0.5) / 128 - 0.5).mean()
            weighted[labels == k] = result[name][labels == k].mean() * (1 - away / np.sqrt(0.5))
        weighted = (weighted - weighted.min()) / np.ptp(weighted)
        threshold = otsu(weighted.ravel(), np.ones(weighted.size, int))
        expected += 1 / (1 + np.exp(-10 * (weighted - threshold))) / 4
    # Float32 may move one threshold by 1/256.
    np.testing.assert_allclose(result["fused"], expected, atol=0.011)
    cut = 2 * result["mask"] - result["fused"]
    np.testing.assert_allclose(cut, np.round(cut), atol=1e-6)


def test_an_object_on_a_plain_ground_is_found_by_all():
    image, mask = draw()
    result = saliency_priors(image)
    for name in PRIORS:
        found = result[name]
        assert (found.dtype, found.shape) == (np.float32, mask.shape)
        assert (found.min(), found.max()) == (0, 1)
        threshold = otsu(found.ravel().astype(np.float64), np.ones(found.size, int))
        assert intersection_over_union(found > threshold, mask) > 0.85, name
    for name in ("fused", "mask"):
        assert intersection_over_union(result[name] > 0.5, mask) > 0.9
    assert result["mask"][mask].mean() > 0.9


def test_an_object_at_the_border_is_found():
    image, mask = draw(rows=slice(50, 96))
    assert intersection_over_union(saliency_priors(image)["mask"] > 0.5, mask) > 0.85


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 300), (300, 2), (3, 3), (96, 128)])
def test_an_image_of_one_colour_has_no_foreground(size):
    for color in (0, 0.4, [0.1, 0.6, 0.9], 1):
        result = saliency_priors(np.full((*size, 3), color, np.float32))
        for name in PRIORS:
            assert not result[name].any()
        assert result["fused"].max() < 1e-4
        assert result["mask"].max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 300), (300, 2), (5, 4), (33, 70)])
def test_tiny_and_narrow_images_have_masks(size):
    for image in (
        np.random.default_rng(0).random((*size, 3)),
        np.random.default_rng(0).random((*size, 1)).repeat(3, axis=-1),
    ):
        result = saliency_priors(image.astype(np.float32))
        for name in (*PRIORS, "fused", "mask"):
            assert result[name].shape == size
            assert np.isfinite(result[name]).all()
            assert 0 <= result[name].min() <= result[name].max() <= 1


def test_grey_objects_are_found():
    image, mask = draw()
    grey = image.mean(axis=-1, keepdims=True)
    grey = np.where(mask[..., None], grey + 0.3, grey).repeat(3, axis=-1)
    found = saliency_priors(grey.astype(np.float32))["mask"] > 0.5
    assert intersection_over_union(found, mask) > 0.85


@pytest.mark.parametrize(
    ("change", "turn"),
    [
        (np.fliplr, np.fliplr),
        (np.flipud, np.flipud),
        (lambda image: np.swapaxes(image, 0, 1), np.transpose),
        (lambda image: image + np.float32(0.1), np.copy),
    ],
    ids=["mirrored", "upside down", "transposed", "brighter"],
)
def test_masks_follow_the_image(change, turn):
    image, _ = draw()
    expected = turn(saliency_priors(image)["mask"]) > 0.5
    changed = saliency_priors(np.ascontiguousarray(change(image)))["mask"] > 0.5
    assert intersection_over_union(changed, expected) > 0.9


def test_masks_are_the_same_each_time():
    image, _ = draw(noise=0.2)
    one, other = saliency_priors(image), saliency_priors(image.copy())
    for name, found in one.items():
        np.testing.assert_array_equal(found, other[name])
