"""Products with the affinity matrix of patches, which is never held as a whole.

The affinity (two tricks, Eq. 4, arXiv 2404.03392) has a row and a column for each patch: 2.6 GB in
float32 at 1,280 pixels and patch 8. It is symmetric and made of two numbers, so that one block at a
time is enough, and those above the diagonal serve both of their sides.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

BLOCK = 1600
"""Most patches along a side of a block: all of an image of 320 pixels at patch 8."""
STRIP = 400
"""Most rows of a block at a time: with fewer, products of matrices are slow on a CPU."""


def inverse_length(features: Float[Array, "*shape D"]) -> Float[Array, "*shape 1"]:
    """Invert the length of features; an all-zero feature times it stays zero."""
    squared = jnp.sum(features * features, axis=-1, keepdims=True)
    return lax.rsqrt(jnp.maximum(squared, 1e-24))


@jax.jit
def affinity_products(
    unit: Float[Array, "B N D"],
    vectors: Float[Array, "B N K"],
    tau: float | Array,
    eps: float | Array,
) -> Float[Array, "B N K"]:
    """Multiply the affinity of patches by vectors, block by block.

    Memory grows with N, time with N². A CPU takes one image after the other, what else there is
    takes all together.

    Args:
        unit: features of length one or zero ``[B, N, D]``, float32. No gradient flows into them.
        vectors: K vectors over the patches ``[B, N, K]``, float32.
        tau: threshold on the cosine.
        eps: weight of patches whose cosine is not above it.

    Returns:
        ``W vectors`` ``[B, N, K]`` with W_ij = 1 where cos(f_i, f_j) > tau and eps elsewhere.
    """
    of_image = partial(_products_of_image, tau=tau, eps=eps)
    return lax.platform_dependent(
        lax.stop_gradient(unit),
        vectors,
        cpu=lambda *images: lax.map(lambda image: of_image(*image), images),
        default=jax.vmap(of_image),
    )


def _products_of_image(
    unit: Array, vectors: Array, tau: float | Array, eps: float | Array
) -> Array:
    patches = unit.shape[0]
    blocks = -(-patches // BLOCK)
    strips = -(-patches // (blocks * STRIP))
    rows = -(-patches // (blocks * strips))

    def by_block(x: Array) -> Array:
        # Patches that fill up the last block have no part in the vectors, whatever their affinity.
        filling = ((0, blocks * strips * rows - patches), (0, 0))
        return jnp.pad(x, filling).reshape(blocks, strips * rows, x.shape[1])

    unit, vectors = by_block(unit), by_block(vectors)

    def affinity(some: Array, others: Array) -> Array:
        # A rounding error may turn an edge over.
        cosine = _exact_product(some, others.T)
        # W_ij = 1 if cos(f_i, f_j) > tau else eps
        return jnp.where(cosine > tau, 1.0, eps)

    def on_diagonal(_: None, block: tuple[Array, Array]) -> tuple[None, Array]:
        unit, vectors = block
        products = jnp.zeros_like(vectors)
        for start in range(0, strips * rows, rows):
            end = start + rows
            weight = affinity(unit[start:end], unit[start:])
            products = products.at[start:end].add(_exact_product(weight, vectors[start:]))
            # The strip to the right of the diagonal is the one below it, turned over.
            turned = _exact_product(vectors[start:end].T, weight)
            products = products.at[end:].add(turned[:, rows:].T)
        return None, products

    def above_diagonal(products: Array, place: tuple[Array, ...]) -> tuple[Array, None]:
        row, column = place
        for start in range(0, strips * rows, rows):
            end = start + rows
            weight = affinity(unit[row, start:end], unit[column])
            products = products.at[row, start:end].add(_exact_product(weight, vectors[column]))
            turned = _exact_product(vectors[row, start:end].T, weight)
            products = products.at[column].add(turned.T)
        return products, None

    _, products = lax.scan(on_diagonal, None, (unit, vectors))
    if blocks > 1:
        places = tuple(jnp.asarray(x, jnp.int32) for x in np.triu_indices(blocks, k=1))
        products, _ = lax.scan(above_diagonal, products, places)
    return products.reshape(-1, products.shape[2])[:patches]


def _exact_product(left: Array, right: Array) -> Array:
    """Multiply matrices in float32, of which a GPU or TPU by itself would take 10 bits or fewer.

    While masks are undecided, the gradient of the N-cut is a small difference of such products.
    """
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


@jax.custom_jvp
def affinity_links(
    unit: Float[Array, "B N D"],
    vectors: Float[Array, "B N K"],
    tau: float | Array,
    eps: float | Array,
) -> Float[Array, "B K K"]:
    """Sum the affinity between all pairs of vectors: ``V^T W V``.

    Its gradient needs nothing but the product ``W V`` that its value is made of, and there is one
    with respect to ``vectors`` alone.
    """
    return _links(vectors, affinity_products(unit, vectors, tau, eps))


@affinity_links.defjvp
def _affinity_links_jvp(
    primals: tuple[Array, Array, float | Array, float | Array], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
    vectors, tangent = primals[1], tangents[1]
    products = affinity_products(*primals)
    # d(V^T W V) = dV^T W V + (dV^T W V)^T
    half = _links(tangent, products)
    return _links(vectors, products), half + half.mT


def _links(vectors: Array, products: Array) -> Array:
    return _exact_product(vectors.mT, products)
