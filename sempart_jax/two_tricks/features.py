"""The features of patches that segmentation looks at, by choice."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float


def patch_features(
    backbone: nn.Module, params: Any, image: Float[Array, "B H W 3"], **options: Any
) -> dict[str, Array]:
    """Compute what a backbone says of images, with the chosen features as ``keys``.

    ``backbone.features`` chooses them: ``keys``, ``queries`` or ``values`` of the last block, or
    ``tokens`` after the last norm. ``backbone.position_directions`` directions of position bias are
    projected out, see :func:`project_out`; for any at all, a blank image goes through the backbone
    as well.

    Args:
        backbone: network with ``apply({"params": params}, image)``.
        params: its parameters.
        image: ImageNet-normalised RGB ``[B, H, W, 3]``.
        options: passed on to the backbone, such as ``class_attention=True``.

    Returns:
        The backbone's results; ``keys`` ``[B, h, w, D]`` are the chosen features.
    """
    output: dict[str, Array] = dict(backbone.apply({"params": params}, image, **options))  # type: ignore[arg-type]
    features = _chosen(backbone, output)
    directions = getattr(backbone, "position_directions", 0)
    if directions:
        blank: Any = backbone.apply({"params": params}, jnp.zeros_like(image[:1]))
        features = project_out(features, _chosen(backbone, blank), directions)
    return {**output, "keys": features}


def project_out(
    features: Float[Array, "B h w D"], blank: Float[Array, "1 h w D"], directions: int
) -> Float[Array, "B h w D"]:
    """Take out of features what follows from the place of a patch alone."""
    bias = blank.reshape(-1, blank.shape[-1])
    bias = bias - jnp.mean(bias, axis=0, keepdims=True)
    basis = jnp.linalg.svd(bias, full_matrices=False)[2][:directions]
    return features - (features @ basis.T) @ basis


def _chosen(backbone: nn.Module, output: Any) -> Array:
    kind = getattr(backbone, "features", "keys")
    if kind != "tokens":
        return jnp.asarray(output[kind])
    tokens = output["tokens"][:, -output["keys"].shape[1] * output["keys"].shape[2] :]
    return jnp.asarray(tokens.reshape(output["keys"].shape))
