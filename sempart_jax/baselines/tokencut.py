"""TokenCut: a normalised cut of the patches of one image (arXiv 2202.11539)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from sempart_jax.baselines.components import component_of
from sempart_jax.baselines.spectral import cosine_similarity, second_eigenvector


def tokencut(
    keys: Float[jax.Array, "B h w D"] | Float[np.ndarray, "B h w D"],
    tau: float = 0.2,
    eps: float = 1e-5,
) -> dict[str, np.ndarray]:
    """Cut each image's graph of patches in two and take the component of the most distinct patch.

    Patches are joined by 1 where the cosine of their keys exceeds ``tau``, else by ``eps``
    (Sec. 3.2). The eigenvector of the second smallest eigenvalue of (D - W) y = lambda D y is split
    at its mean; its entry of largest absolute value, the seed, lies in the foreground.

    Args:
        keys: keys of the backbone's last block ``[B, h, w, D]``.
        tau: threshold of the similarity.
        eps: weight of edges below it.

    Returns:
        ``mask``: bool ``[B, h, w]``, the 4-connected component of the foreground that holds the
        seed; ``foreground``: bool ``[B, h, w]``, all of the side; ``eigenvector``: float32
        ``[B, h, w]``, above its mean at the seed; ``seed``: int ``[B]``, row by row.
    """
    batch, height, width, _ = keys.shape
    eigenvector, foreground, seed = map(np.asarray, _bipartition(jnp.asarray(keys), tau, eps))
    shape = (batch, height, width)
    foreground = foreground.reshape(shape)
    return {
        "mask": np.stack(
            [component_of(side, int(place)) for side, place in zip(foreground, seed, strict=True)]
        ),
        "foreground": foreground,
        "eigenvector": eigenvector.reshape(shape),
        "seed": seed,
    }


@jax.jit
def _bipartition(
    keys: Float[jax.Array, "B h w D"], tau: float | jax.Array, eps: float | jax.Array
) -> tuple[Float[jax.Array, "B N"], Bool[jax.Array, "B N"], Int[jax.Array, " B"]]:
    batch, height, width, channels = keys.shape
    similarity = cosine_similarity(keys.reshape(batch, height * width, channels))
    # W_ij = 1 where cos(k_i, k_j) > tau, else eps
    affinity = jnp.where(similarity > tau, 1.0, eps).astype(jnp.float32)
    y = second_eigenvector(affinity)
    seed = jnp.argmax(jnp.abs(y), axis=-1)
    foreground = y > jnp.mean(y, axis=-1, keepdims=True)
    swap = ~jnp.take_along_axis(foreground, seed[:, None], axis=-1)
    return jnp.where(swap, -y, y), foreground ^ swap, seed
