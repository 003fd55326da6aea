"""A network small enough for tests, with seeded variables that take no compilation to draw."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sempart_jax.two_tricks.head import SegmentationHead
from sempart_jax.two_tricks.head_network import HeadNetwork
from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.vit import VisionTransformer

BACKBONE = VisionTransformer(patch_size=2, width=12, depth=1, num_heads=2, trained_grid=2)
NETWORK = HeadNetwork(
    BACKBONE, SegmentationHead(patch_size=2, axis_name="device"), radius=3, filter_eps=1e-2
)


def seeded_variables(seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the backbone's parameters and the head's variables, as if trained, on the host."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        elif len(leaf.shape) == 1:
            values = rng.normal(0, 0.1, leaf.shape)
        else:
            values = rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
        return values.astype(leaf.dtype)

    key, image = jax.random.key(0), jnp.zeros((1, 4, 4, 3))
    backbone = jax.eval_shape(BACKBONE.init, key, image)["params"]
    head = jax.eval_shape(lambda params: NETWORK.init(key, params, 4), backbone)
    return jax.tree_util.tree_map_with_path(draw, (backbone, head))


def evaluate_objective(objective, network, frozen_params, variables, image, corners=None, step=0):
    """Compute the terms of images, with the regions at ``corners`` instead of random ones."""
    keys = jax.random.split(jax.random.key(0), len(image))
    return objective.evaluate(
        *(network, frozen_params, variables, Examples(image)), keys=keys, step=step, corners=corners
    )
