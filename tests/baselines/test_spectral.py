"""The second eigenvector, on graphs whose answer is known and on degenerate ones."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sempart_jax.baselines.spectral import cosine_similarity, second_eigenvector
from tests.baselines.references import cosines, generalised_eigenvector


def solve(*graphs, **options):
    return np.asarray(second_eigenvector(jnp.asarray(np.stack(graphs), jnp.float32), **options))


def alignment(ours, exact):
    return abs(ours @ exact) / np.linalg.norm(ours) / np.linalg.norm(exact)


def random_graph(seed, nodes=40):
    weights = np.random.default_rng(seed).random((nodes, nodes))
    return weights + weights.T


def blocks(*sizes, between=1e-3):
    """Cliques that are joined weakly."""
    graph = np.full((sum(sizes), sum(sizes)), between)
    start = 0
    for size in sizes:
        graph[start : start + size, start : start + size] = 1
        start += size
    return graph


def path(nodes):
    return np.diag(np.ones(nodes - 1), 1) + np.diag(np.ones(nodes - 1), -1)


def test_random_graphs_in_a_batch():
    graphs = [random_graph(seed) for seed in range(3)]
    for ours, graph in zip(solve(*graphs), graphs, strict=True):
        exact = generalised_eigenvector(graph)
        assert alignment(ours, exact) > 0.9999
        # y^T D y = 1, and orthogonal to the first eigenvector 1
        np.testing.assert_allclose(ours @ (graph.sum(1) * ours), 1, rtol=1e-4)
        np.testing.assert_allclose(ours @ graph.sum(1), 0, atol=1e-3)


def test_two_cliques_are_told_apart():
    (ours,) = solve(blocks(5, 9))
    assert len(set(np.sign(ours[:5]))) == len(set(np.sign(ours[5:]))) == 1
    assert ours[0] * ours[-1] < 0


def test_a_path_gives_a_half_wave():
    nodes = 12
    (ours,) = solve(path(nodes), steps=nodes)
    assert alignment(ours, generalised_eigenvector(path(nodes))) > 0.9999
    assert np.all(np.diff(ours * np.sign(ours[-1] - ours[0])) > 0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_weights_does_not_matter(scale):
    graph = random_graph(0)
    assert alignment(solve(scale * graph)[0], generalised_eigenvector(graph)) > 0.9999


def test_disconnected_graphs_and_lone_nodes_give_numbers():
    parts = scipy.linalg.block_diag(np.ones((4, 4)), np.ones((3, 3)), np.zeros((1, 1)))
    (ours,) = solve(parts)
    assert np.isfinite(ours).all()
    # lambda = 0 twice: the second eigenvector is constant on each part.
    assert np.ptp(ours[:4]) < 1e-4
    assert np.ptp(ours[4:7]) < 1e-4
    assert abs(ours[0] - ours[4]) > 0.1
    assert ours[7] == 0


@pytest.mark.parametrize("graph", [np.ones((1, 1)), np.ones((6, 6)), np.zeros((5, 5))])
def test_graphs_without_a_second_eigenvector_give_numbers(graph):
    assert np.isfinite(solve(graph)).all()


def test_cosines_are_those_of_float64_and_0_with_nothing():
    keys = np.random.default_rng(0).normal(size=(1, 6, 5)).astype(np.float32)
    keys[0, 3] = 0
    ours = np.asarray(cosine_similarity(jnp.asarray(keys)))[0]
    np.testing.assert_allclose(ours, cosines(keys[0]), atol=1e-6)
