"""The loss terms of Sempart and of the multi-scale trick (two tricks, Eq. 5-10, arXiv 2404.03392).

Each function returns a float32 scalar, the mean over the batch. Inputs of any float dtype are taken
to float32 first, so that a bf16 backbone changes the features but never a reduction. Masks are
probabilities in [0, 1], not logits.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from sempart_jax.kernels.resize import resize_bilinear
from sempart_jax.two_tricks.affinity import affinity_links, inverse_length

Scalar = Float[Array, ""]

_NEIGHBOURS = 8


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
    features = lax.stop_gradient(features.astype(jnp.float32))
    unit = (features * inverse_length(features)).reshape(batch, height * width, -1)
    s = jnp.clip(mask.astype(jnp.float32), eps, 1 - eps).reshape(batch, height * width, 1)
    # The four sums s^T W s, s^T W (1-s), (1-s)^T W s, (1-s)^T W (1-s), each without subtraction.
    links = affinity_links(unit, jnp.concatenate([s, 1 - s], axis=-1), tau, eps)
    cut = links[:, 0, 1]
    # s^T W (1-s) / s^T W 1  +  s^T W (1-s) / (1-s)^T W 1
    return jnp.mean(cut / (links[:, 0, 0] + cut) + cut / (links[:, 1, 0] + links[:, 1, 1]))


def _edges(x: Array) -> Iterator[tuple[Array, Array]]:
    """Yield both ends of all edges of neighbours in ``x`` ``[B, h, w, ...]``, by direction."""
    yield x[:, :, :-1], x[:, :, 1:]
    yield x[:, :-1], x[:, 1:]
    yield x[:, :-1, :-1], x[:, 1:, 1:]
    yield x[:, :-1, 1:], x[:, 1:, :-1]


def _edge_counts(height: int, width: int) -> Iterator[Array]:
    """Yield how often an edge counts, for the directions of :func:`_edges`, ``[1, rows, columns]``.

    Every pixel looks at its 8 neighbours, and where it has none at the one across, as if the image
    were reflected at the border without repeat. So an edge counts twice, and more at the border.
    """
    if min(height, width) < 2:
        raise ValueError(f"total variation needs at least 2x2 pixels, got {height}x{width}")

    def looks(size: int) -> tuple[Array, Array]:
        """How often the lower and the upper pixel of a pair along an axis look at the other."""
        lower = np.ones(size - 1, np.float32)
        lower[0] += 1
        return jnp.asarray(lower), jnp.asarray(lower[::-1])

    (down, up), (right, left) = looks(height), looks(width)
    yield (right + left)[None, None, :]
    yield (down + up)[None, :, None]
    yield (jnp.outer(down, right) + jnp.outer(up, left))[None]
    yield (jnp.outer(down, left) + jnp.outer(up, right))[None]


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
    image, mask = image.astype(jnp.float32), mask.astype(jnp.float32)[..., 0]
    total = jnp.zeros(())
    # Colour by colour: three numbers side by side would leave most of a vector unit idle.
    for count, values, *colours in zip(
        _edge_counts(*mask.shape[1:]),
        _edges(mask),
        *(_edges(image[..., channel]) for channel in range(3)),
        strict=True,
    ):
        # w_ij = exp(-|x_i - x_j|^2 / sigma);  w_ij (s_i - s_j)^2
        distance = sum((x - y) ** 2 for x, y in colours)
        weight = count * jnp.exp(-distance / sigma)
        total = total + jnp.sum(weight * (values[0] - values[1]) ** 2)
    return total / (_NEIGHBOURS * mask.size)


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
    features = lax.stop_gradient(features.astype(jnp.float32))
    mask = mask.astype(jnp.float32)[..., 0]
    # On a CPU a product with ones sums faster than a sum that would be fused with the slicing.
    ones = jnp.ones(features.shape[-1])
    total = jnp.zeros(())
    for count, values, keys, lengths in zip(
        _edge_counts(*mask.shape[1:]),
        _edges(mask),
        _edges(features),
        _edges(inverse_length(features)[..., 0]),
        strict=True,
    ):
        product = jnp.matmul(keys[0] * keys[1], ones, precision=lax.Precision.HIGHEST)
        cosine = product * lengths[0] * lengths[1]
        # w_ij (s_i - s_j)^2
        weight = count * jnp.where(cosine > tau, 1.0, eps)
        total = total + jnp.sum(weight * (values[0] - values[1]) ** 2)
    return total / (_NEIGHBOURS * mask.size)


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
        target: what :func:`sempart_jax.two_tricks.multiscale.teacher_target` makes of the mask
            predicted for the zoomed image, ``[B, H, W, 1]``; it carries no gradient.

    Returns:
        Scalar.
    """
    return jnp.mean((student.astype(jnp.float32) - target.astype(jnp.float32)) ** 2)


def cross_entropy(
    mask: Float[Array, "*shape"], target: Float[Array, "*shape"], eps: float = 1e-6
) -> Scalar:
    """Binary cross-entropy of a mask and a soft target, least where both are equal.

    Not part of the papers.

    Args:
        mask: predicted mask in [0, 1], clipped to ``[eps, 1 - eps]``.
        target: in [0, 1].
        eps: in (0, 0.5).

    Returns:
        Scalar, mean over images and pixels.
    """
    mask = jnp.clip(mask, eps, 1 - eps)
    # -t log m - (1 - t) log(1 - m)
    return -jnp.mean(target * jnp.log(mask) + (1 - target) * jnp.log1p(-mask))
