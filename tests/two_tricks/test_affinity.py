"""Products with the affinity against the whole matrix in float64, gradients, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from sempart_jax.two_tricks import affinity
from sempart_jax.two_tricks.affinity import affinity_links, affinity_products
from sempart_jax.two_tricks.losses import normalized_cut

TAU, EPS = 0.3, 1e-3


def reference_affinity(unit, tau, eps):
    wide = np.asarray(unit, np.float64)
    return np.where(wide @ wide.swapaxes(1, 2) > tau, 1.0, eps)


def random_inputs(patches, batch=2, depth=8, count=3, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(batch, patches, depth)) + 0.3
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    vectors = rng.normal(size=(batch, patches, count))
    return jnp.asarray(unit, jnp.float32), jnp.asarray(vectors, jnp.float32)


def assert_products_equal_the_whole_matrix(
    unit, vectors, tau=TAU, eps=EPS, products_of=affinity_products
):
    whole = reference_affinity(unit, tau, eps)
    assert 0.05 < (whole == 1.0).mean() <= 1.0
    expected = whole @ np.asarray(vectors, np.float64)
    scale = np.abs(expected).max()
    products = products_of(unit, vectors, tau, eps)
    np.testing.assert_allclose(products, expected, rtol=1e-5, atol=1e-5 * scale)


# One patch; one strip; strips that do not divide; one block; several that do not divide.
@pytest.mark.parametrize("patches", [1, 7, 400, 401, 1600, 1603, 3301])
def test_products_equal_the_whole_matrix(patches):
    assert_products_equal_the_whole_matrix(*random_inputs(patches))


@pytest.mark.parametrize("patches", [3, 4, 5, 11, 12, 13, 24, 25, 26, 37, 50])
def test_products_equal_the_whole_matrix_for_every_way_to_divide(patches, monkeypatch):
    monkeypatch.setattr(affinity, "BLOCK", 12)
    monkeypatch.setattr(affinity, "STRIP", 4)

    # Traced anew, with the small blocks; all images together, as a device that is no CPU does it.
    @jax.jit
    def products_of(unit, vectors, tau, eps):
        of_image = jax.vmap(affinity._products_of_image, (0, 0, None, None))
        return of_image(unit, vectors, tau, eps)

    inputs = random_inputs(patches, seed=patches)
    assert_products_equal_the_whole_matrix(*inputs, products_of=products_of)


@settings(deadline=None, max_examples=10)
@given(
    tau=st.sampled_from([-0.5, 0.0, 0.2, 0.6]),
    eps=st.sampled_from([0.0, 1e-6, 0.5]),
    sizes=st.sampled_from([(1, 1), (4, 1), (2, 3)]),
)
def test_products_for_any_threshold_weight_and_number_of_vectors(tau, eps, sizes):
    count, batch = sizes
    unit, vectors = random_inputs(30, batch=batch, count=count)
    assert_products_equal_the_whole_matrix(unit, vectors, tau, eps)


def test_features_of_zero_resemble_none():
    unit, vectors = random_inputs(20)
    products = affinity_products(jnp.zeros_like(unit), vectors, TAU, EPS)
    expected = EPS * np.broadcast_to(np.sum(vectors, axis=1, keepdims=True), vectors.shape)
    np.testing.assert_allclose(products, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("patches", [9, 1603])
def test_links_and_their_gradient_equal_the_whole_matrix(patches):
    unit, vectors = random_inputs(patches)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=(2, 3, 3))

    def value(vectors):
        links = affinity_links(unit, vectors, TAU, EPS)
        return jnp.sum(jnp.asarray(cotangent, jnp.float32) * links), links

    gradient, links = jax.jit(jax.grad(value, has_aux=True))(vectors)
    whole = reference_affinity(unit, TAU, EPS)
    wide = np.asarray(vectors, np.float64)
    expected = wide.swapaxes(1, 2) @ whole @ wide
    np.testing.assert_allclose(links, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    # d sum(C * V^T W V) / dV = W V (C + C^T)
    slope = whole @ wide @ (cotangent + cotangent.swapaxes(1, 2))
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5 * np.abs(slope).max())


def test_links_in_both_modes_by_finite_differences():
    unit, vectors = random_inputs(6)

    def links(vectors):
        return affinity_links(unit, jnp.asarray(vectors), TAU, EPS)

    check_grads(links, (vectors,), order=1, modes=("fwd", "rev"), rtol=2e-2, atol=2e-2)


def test_no_gradient_flows_into_the_features():
    unit, vectors = random_inputs(11)
    for function in (affinity_links, affinity_products):
        of_unit = jax.grad(lambda u, function=function: function(u, vectors, TAU, EPS).sum())
        gradient = jax.jit(of_unit)(unit)
        assert not np.any(gradient)


def test_links_under_vmap():
    unit, vectors = random_inputs(13, batch=4)
    links_of = jax.vmap(lambda u, v: affinity_links(u[None], v[None], TAU, EPS)[0])
    mapped = jax.jit(links_of)(unit, vectors)
    np.testing.assert_allclose(mapped, affinity_links(unit, vectors, TAU, EPS), rtol=1e-5)


def test_edges_are_decided_in_full_precision_on_every_device():
    arguments = (*random_inputs(5), TAU, EPS)
    for platform in ("cpu", "cuda", "tpu"):
        lowered = jax.export.export(affinity_products, platforms=[platform])(*arguments)
        cosines = [
            line
            for line in lowered.mlir_module().splitlines()
            # The one product of features with features; the others add up vectors.
            if "dot_general" in line and "5x8xf32" in line
        ]
        assert cosines, platform
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in cosines), platform


def test_no_device_takes_a_short_cut_in_any_product():
    # A GPU would by itself take 10 bits of float32, too few for the gradient of undecided masks.
    features = jax.ShapeDtypeStruct((2, 50, 50, 16), jnp.float32)
    mask = jax.ShapeDtypeStruct((2, 50, 50, 1), jnp.float32)
    traced = jax.jit(jax.value_and_grad(normalized_cut, argnums=1)).trace(features, mask)
    for platform in ("cuda", "tpu"):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        # cosines, both sides of a strip, on and above the diagonal, and the links
        assert len(products) > 6
        for line in products:
            assert "precision = [HIGHEST, HIGHEST]" in line
