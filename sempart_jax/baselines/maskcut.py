"""MaskCut: the objects of one image by repeated normalised cuts (arXiv 2301.11320)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from sempart_jax.baselines.components import component_of
from sempart_jax.baselines.spectral import cosine_similarity, second_eigenvector

ROUNDS = 32
"""Most cuts of an image."""

_CORNERS = 3


def maskcut(
    keys: Float[jax.Array, "B h w D"] | Float[np.ndarray, "B h w D"],
    tau: float = 0.15,
    eps: float = 1e-5,
    flat: float = 0.9,
    touching: float = 0.5,
    smallest: float = 0.01,
) -> dict[str, np.ndarray]:
    """Cut one object after another out of each image's graph of patches, until the rest is flat.

    Patches are joined as in TokenCut. Each cut is that of TokenCut among the patches that are not
    found yet, the others having no edges; a side that holds three corners of the image is never the
    foreground (Sec. 3.2). What is not the paper's: it takes a fixed number of cuts, and does not
    cut the component of the most distinct patch again, which parts objects that touch.

    Args:
        keys: keys of the backbone's last block ``[B, h, w, D]``.
        tau: threshold of the similarity.
        eps: weight of edges below it.
        flat: normalised cut from which on nothing is left to be found: 0 between parts without
            edges, 1 where any cut is as good as another.
        touching: normalised cut below which a part is several objects.
        smallest: share of the patches from which on a part is an object.

    Returns:
        ``objects``: int32 ``[B, h, w]``, 0 where there is no object, which are numbered from 1 in
        the order in which they are found; ``mask``: bool ``[B, h, w]``, all of them.
    """
    batch, height, width, _ = keys.shape
    joined = _joined(jnp.asarray(keys), tau)
    objects = np.zeros((batch, height * width), np.int32)
    free = np.ones((batch, height * width), bool)
    part = free.copy()
    going = np.ones(batch, bool)
    corners = np.array([0, width - 1, (height - 1) * width, height * width - 1])
    for _ in range(ROUNDS):
        eigenvector, above, value = map(np.asarray, _bipartition(joined, part, eps))
        for image in np.flatnonzero(going):
            whole = np.array_equal(part[image], free[image])
            if value[image] < (flat if whole else touching):
                y, side = eigenvector[image], above[image]
                other = part[image] & ~side
                swap = not side[np.argmax(np.abs(y))]
                if whole and (other if swap else side)[corners].sum() >= _CORNERS:
                    swap = not swap
                if swap:
                    y, side = -y, other
                seed = int(np.argmax(np.where(side, y, -np.inf)))
                part[image] = component_of(side.reshape(height, width), seed).ravel()
            elif whole:
                going[image] = False
            else:
                if part[image].mean() >= smallest:
                    objects[image, part[image]] = objects[image].max() + 1
                free[image] &= ~part[image]
                part[image] = free[image]
        if not going.any():
            break
    objects = objects.reshape(batch, height, width)
    return {"objects": objects, "mask": objects > 0}


@jax.jit
def _joined(keys: Float[jax.Array, "B h w D"], tau: float | jax.Array) -> Bool[jax.Array, "B N N"]:
    batch, height, width, channels = keys.shape
    return cosine_similarity(keys.reshape(batch, height * width, channels)) > tau


@jax.jit
def _bipartition(
    joined: Bool[jax.Array, "B N N"], part: Bool[jax.Array, "B N"], eps: float | jax.Array
) -> tuple[Float[jax.Array, "B N"], Bool[jax.Array, "B N"], Float[jax.Array, " B"]]:
    within = part[:, :, None] & part[:, None, :]
    affinity = jnp.where(within, jnp.where(joined, 1.0, eps), 0.0).astype(jnp.float32)
    y = second_eigenvector(affinity)
    mean = jnp.sum(y, axis=-1, where=part) / jnp.maximum(jnp.sum(part, axis=-1), 1)
    above = part & (y > mean[:, None])
    # Ncut(A, B) = cut(A, B) / assoc(A, V) + cut(A, B) / assoc(B, V)
    sides = jnp.stack([above, part & ~above], axis=1).astype(jnp.float32)
    degree = jnp.sum(affinity, axis=-1)
    cut = jnp.einsum("bn,bnm,bm->b", sides[:, 0], affinity, sides[:, 1])
    volume = jnp.einsum("bsn,bn->bs", sides, degree)
    value = jnp.sum(jnp.where(volume > 0, cut[:, None] / jnp.maximum(volume, eps), 1), axis=-1)
    return y, above, value
