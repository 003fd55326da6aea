"""LOST: one object from the patch that resembles the fewest others (arXiv 2109.14279)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int

from sempart_jax.baselines.components import component_of


def lost(
    keys: Float[jax.Array, "B h w D"] | Float[np.ndarray, "B h w D"], k: int = 100
) -> dict[str, np.ndarray]:
    """Find one object an image.

    The seed is the patch whose key has a positive scalar product with the fewest others (Sec. 3.2).
    Of the ``k`` patches with the fewest, those that are positive with the seed are its fellows; a
    patch belongs to the object where its scalar products with them sum to more than 0 (Sec. 3.3).
    Of equally few, the patch that comes first row by row is taken.

    Args:
        keys: keys of the backbone's last block ``[B, h, w, D]``.
        k: patches that the seed is extended among; all of them where there are fewer.

    Returns:
        ``mask``: bool ``[B, h, w]``, the 4-connected component that holds the seed; ``foreground``:
        bool ``[B, h, w]``, all components; ``seed``: int ``[B]``, row by row.

    Raises:
        ValueError: if ``k`` is not positive.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1 patch, got {k}")
    batch, height, width, _ = keys.shape
    foreground, seed = map(np.asarray, _expand(jnp.asarray(keys), min(k, height * width)))
    foreground = foreground.reshape(batch, height, width)
    return {
        "mask": np.stack(
            [component_of(side, int(place)) for side, place in zip(foreground, seed, strict=True)]
        ),
        "foreground": foreground,
        "seed": seed,
    }


@functools.partial(jax.jit, static_argnums=1)
def _expand(
    keys: Float[jax.Array, "B h w D"], k: int
) -> tuple[Bool[jax.Array, "B N"], Int[jax.Array, " B"]]:
    batch, height, width, channels = keys.shape
    flat = keys.reshape(batch, height * width, channels)
    similarity = jnp.einsum("bnd,bmd->bnm", flat, flat, precision=lax.Precision.HIGHEST)
    others = ~jnp.eye(height * width, dtype=bool)[None]
    # d_p = |{q != p : k_p . k_q > 0}|
    degree = jnp.sum((similarity > 0) & others, axis=-1)
    lowest = jnp.argsort(degree, axis=-1, stable=True)[:, :k]
    seed = lowest[:, 0]
    with_seed = jnp.take_along_axis(similarity, seed[:, None, None], axis=1)[:, 0]
    candidates = jnp.take_along_axis(with_seed, lowest, axis=-1) > 0
    fellows = jnp.zeros(with_seed.shape, similarity.dtype)
    rows = jnp.arange(batch)[:, None]
    fellows = fellows.at[rows, lowest].set(candidates.astype(similarity.dtype))
    # m_q = [sum over fellows s of k_q . k_s > 0]
    summed = jnp.einsum("bn,bnm->bm", fellows, similarity, precision=lax.Precision.HIGHEST)
    return summed > 0, seed
