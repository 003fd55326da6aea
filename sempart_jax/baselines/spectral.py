"""The second eigenvector of a graph's normalised Laplacian, batched on the device.

TokenCut and Deep Spectral Methods both solve (D - W) y = lambda D y for the smallest lambda but 0.
With z = D^(1/2) y that is the largest eigenvalue of N = D^(-1/2) W D^(-1/2) but one, whose first
eigenvector D^(1/2) 1 is known and taken out.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

_SEED = 0
_TINY = 1e-20


def cosine_similarity(features: Float[Array, "B N D"]) -> Float[Array, "B N N"]:
    """Cosine of the angle between all pairs of features; 0 with a feature of length 0."""
    length = jnp.linalg.norm(features, axis=-1, keepdims=True)
    unit = features / jnp.maximum(length, 1e-12)
    return jnp.einsum("bnd,bmd->bnm", unit, unit, precision=lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=("steps",))
def second_eigenvector(
    affinity: Float[Array, "B N N"], *, steps: int = 60, tolerance: float = 1e-5
) -> Float[Array, "B N"]:
    """Solve (D - W) y = lambda D y for the smallest eigenvalue but the first, which is 0.

    Lanczos iterations with full reorthogonalisation, from one random vector that is orthogonal to
    the first eigenvector. They end after so many steps, or when the residual norm of N z = mu z is
    below the tolerance everywhere.

    Returns:
        y with y^T D y = 1, of arbitrary sign; 0 at a node without edges, and in a graph of one
        node.
    """
    batch, nodes, _ = affinity.shape
    degree = jnp.sum(affinity, axis=-1)
    root = jnp.sqrt(degree)
    # A node without any edge takes no part.
    inverse_root = jnp.where(degree > 0, 1 / jnp.maximum(root, _TINY), 0)
    first = root / jnp.maximum(jnp.linalg.norm(root, axis=-1, keepdims=True), _TINY)

    def apply(z: Array) -> Array:
        # N z = D^(-1/2) W D^(-1/2) z
        return jnp.einsum("bnm,bm->bn", affinity, z * inverse_root) * inverse_root

    def orthogonal(z: Array, basis: Array) -> Array:
        """Take out the first eigenvector and the basis, twice against rounding."""
        for _ in range(2):
            z = z - first * jnp.sum(first * z, axis=-1, keepdims=True)
            z = z - jnp.einsum("bsn,bs->bn", basis, jnp.einsum("bsn,bn->bs", basis, z))
        return z

    def unit(z: Array) -> tuple[Array, Array]:
        length = jnp.linalg.norm(z, axis=-1)
        return jnp.where(length[:, None] > 1e-6, z / jnp.maximum(length, _TINY)[:, None], 0), length

    def ritz(diagonal: Array, off_diagonal: Array) -> Array:
        """Eigenvector of the largest eigenvalue of the tridiagonal matrices."""
        matrix = jax.vmap(jnp.diag)(diagonal)
        matrix = matrix + jax.vmap(lambda b: jnp.diag(b, 1) + jnp.diag(b, -1))(off_diagonal[:, :-1])
        return jnp.linalg.eigh(matrix)[1][:, :, -1]

    steps = min(steps, nodes)
    start = jax.random.normal(jax.random.key(_SEED), (nodes,), affinity.dtype)
    basis = jnp.zeros((batch, steps, nodes), affinity.dtype)
    vector, _ = unit(orthogonal(jnp.broadcast_to(start, (batch, nodes)), basis))
    # Below every eigenvalue of N, so that dimensions not yet reached are never the largest.
    diagonal = jnp.full((batch, steps), -2.0, affinity.dtype)
    off_diagonal = jnp.zeros((batch, steps), affinity.dtype)

    def more(state: tuple[Array, ...]) -> Array:
        step, residual = state[0], state[-1]
        return (step < steps) & (residual > tolerance)

    def extend(state: tuple[Array, ...]) -> tuple[Array, ...]:
        step, vector, basis, diagonal, off_diagonal, _ = state
        basis = basis.at[:, step].set(vector)
        product = apply(vector)
        alpha = jnp.sum(vector * product, axis=-1)
        following, beta = unit(orthogonal(product, basis))
        diagonal = diagonal.at[:, step].set(alpha)
        off_diagonal = off_diagonal.at[:, step].set(beta)
        # ||N z - mu z|| = beta |s_last|
        weights = ritz(diagonal, off_diagonal.at[:, step].set(0.0))
        residual = jnp.max(jnp.abs(weights[:, step]) * beta)
        return step + 1, following, basis, diagonal, off_diagonal, residual

    zero = jnp.zeros((), jnp.int32)
    unknown = jnp.asarray(jnp.inf, affinity.dtype)
    state: tuple[Array, ...] = (zero, vector, basis, diagonal, off_diagonal, unknown)
    step, _, basis, diagonal, off_diagonal, _ = lax.while_loop(more, extend, state)
    last = jnp.arange(steps) == step - 1
    weights = ritz(diagonal, jnp.where(last, 0.0, off_diagonal))
    # y = D^(-1/2) z
    return jnp.einsum("bsn,bs->bn", basis, weights) * inverse_root
