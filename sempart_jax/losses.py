"""The loss terms of Sempart and of the multi-scale trick (two tricks, Eq. 5-10, arXiv 2404.03392).

Each function returns a float32 scalar, the mean over the batch. Inputs of any float dtype are taken
to float32 first, so that a bf16 backbone changes the features but never a reduction. Masks are
probabilities in [0, 1], not logits.
"""

from collections.abc import Iterator

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from sempart_jax.resize import resize_bilinear

Scalar = Float[Array, ""]

_NEIGHBOURS = tuple(
    (row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)
)


def _unit_length(features: Array) -> Array:
    """Scale features to length one; an all-zero feature stays zero and resembles none."""
    features = features.astype(jnp.float32)
    squared = jnp.sum(features * features, axis=-1, keepdims=True)
    return features * lax.rsqrt(jnp.maximum(squared, 1e-24))


def normalized_cut(
    features: Float[Array, "B h w D"],
    mask: Float[Array, "B h w 1"],
    tau: float = 0.4,
    eps: float = 1e-6,
) -> Scalar:
    """Cost of the soft two-way cut of the patch graph by ``mask`` (two tricks, Eq. 5).

    The graph joins all pairs of patches, with weight 1 where the cosine of their features is above
    ``tau`` and ``eps`` elsewhere (Eq. 4). The cost lies in [0, 2] and is the same for ``mask``
    and ``1 - mask``.

    Args:
        features: keys of the frozen backbone ``[B, h, w, D]``. No gradient flows into them: the
            thresholded affinity has none.
        mask: coarse mask ``[B, h, w, 1]``, clipped to ``[eps, 1 - eps]`` inside.
        tau: threshold on the cosine.
        eps: weight of a weak edge, and the margin of the clipping.

    Returns:
        Scalar, mean over the batch.
    """
    batch, height, width, _ = mask.shape
    unit = lax.stop_gradient(_unit_length(features)).reshape(batch, height * width, -1)
    # W_ij = 1 if cos(f_i, f_j) > tau else eps
    cosine = jnp.einsum("bid,bjd->bij", unit, unit)
    affinity = jnp.where(cosine > tau, 1.0, eps)
    s = jnp.clip(mask.astype(jnp.float32), eps, 1 - eps).reshape(batch, height * width, 1)
    sides = jnp.concatenate([s, 1 - s], axis=-1)
    # The four sums s^T W s, s^T W (1-s), (1-s)^T W s, (1-s)^T W (1-s), each without subtraction.
    links = jnp.einsum("bia,bij,bjc->bac", sides, affinity, sides, optimize=[(1, 2), (0, 1)])
    cut = links[:, 0, 1]
    # s^T W (1-s) / s^T W 1  +  s^T W (1-s) / (1-s)^T W 1
    return jnp.mean(cut / (links[:, 0, 0] + cut) + cut / (links[:, 1, 0] + links[:, 1, 1]))


def _reflected_neighbours(x: Array) -> Iterator[Array]:
    """Yield ``x`` shifted to each of the 8 neighbours, reflected at the border without repeat."""
    height, width = x.shape[1:3]
    if min(height, width) < 2:
        raise ValueError(f"total variation needs at least 2x2 pixels, got {height}x{width}")
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    for row, column in _NEIGHBOURS:
        yield padded[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]


def graph_total_variation_fine(
    image: Float[Array, "B H W 3"], mask: Float[Array, "B H W 1"], sigma: float = 1.0
) -> Scalar:
    """Squared differences of neighbouring mask pixels, weighted by colour (Eq. 7-9, fine).

    A mask edge costs little where the image has an edge. The mean over images, pixels and the 8
    neighbours, not the sum: the paper's own choice (Sec. 5.1).

    Args:
        image: ImageNet-normalised RGB ``[B, H, W, 3]``; at least 2x2 pixels.
        mask: fine mask ``[B, H, W, 1]``.
        sigma: squared colour distance at which the weight has fallen to 1/e.

    Returns:
        Scalar.

    Raises:
        ValueError: if the mask is smaller than 2x2.
    """
    image, mask = image.astype(jnp.float32), mask.astype(jnp.float32)
    total = jnp.zeros(mask.shape, jnp.float32)
    for colour, value in zip(
        _reflected_neighbours(image), _reflected_neighbours(mask), strict=True
    ):
        # w_ij = exp(-|x_i - x_j|^2 / sigma);  w_ij (s_i - s_j)^2
        distance = jnp.sum((image - colour) ** 2, axis=-1, keepdims=True)
        total = total + jnp.exp(-distance / sigma) * (mask - value) ** 2
    return jnp.mean(total) / len(_NEIGHBOURS)


def graph_total_variation_coarse(
    features: Float[Array, "B h w D"],
    mask: Float[Array, "B h w 1"],
    tau: float = 0.4,
    eps: float = 1e-6,
) -> Scalar:
    """Squared differences of neighbouring patches, weighted by feature affinity (Eq. 7-9, coarse).

    Args:
        features: keys of the frozen backbone ``[B, h, w, D]``, at least 2x2 patches; no gradient.
        mask: coarse mask ``[B, h, w, 1]``.
        tau: threshold on the cosine above which two patches are alike.
        eps: weight of patches that are not alike.

    Returns:
        Scalar, mean over images, patches and the 8 neighbours.

    Raises:
        ValueError: if the mask is smaller than 2x2.
    """
    unit = lax.stop_gradient(_unit_length(features))
    mask = mask.astype(jnp.float32)
    total = jnp.zeros(mask.shape, jnp.float32)
    for feature, value in zip(
        _reflected_neighbours(unit), _reflected_neighbours(mask), strict=True
    ):
        cosine = jnp.sum(unit * feature, axis=-1, keepdims=True)
        # w_ij (s_i - s_j)^2
        total = total + jnp.where(cosine > tau, 1.0, eps) * (mask - value) ** 2
    return jnp.mean(total) / len(_NEIGHBOURS)


def coarse_fine_consistency(
    coarse: Float[Array, "B h w 1"], fine: Float[Array, "B H W 1"]
) -> Scalar:
    """Mean squared difference of the coarse mask and the fine mask brought down to it (Eq. 6).

    The fine mask is sampled bilinearly without antialiasing. Gradients flow into both.

    Args:
        coarse: coarse mask ``[B, h, w, 1]``.
        fine: fine mask ``[B, H, W, 1]``.

    Returns:
        Scalar.
    """
    coarse, fine = coarse.astype(jnp.float32), fine.astype(jnp.float32)
    sampled = resize_bilinear(fine, coarse.shape[1], coarse.shape[2])
    return jnp.mean((coarse - sampled) ** 2)


def equivariance(student: Float[Array, "B H W 1"], target: Float[Array, "B H W 1"]) -> Scalar:
    """Mean squared difference of the zoomed student mask and the teacher's target (Sec. 4, step 5).

    Args:
        student: region of the fine mask, zoomed to full size ``[B, H, W, 1]``.
        target: what :func:`sempart_jax.multiscale.teacher_target` makes of the mask predicted for
            the zoomed image, ``[B, H, W, 1]``; it carries no gradient.

    Returns:
        Scalar.
    """
    return jnp.mean((student.astype(jnp.float32) - target.astype(jnp.float32)) ** 2)
