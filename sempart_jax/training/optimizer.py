"""AdamW as DINO uses it: clipping tensor by tensor, two schedules, a last layer that waits."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from sempart_jax.training.schedules import Schedule

CLIP_NORM = 3.0
CLIP_EPS = 1e-6
LAST_LAYER = "last_layer"
"""Name of the layer that waits, anywhere in the tree of parameters."""


def dino_optimizer(
    learning_rate: Schedule,
    weight_decay: Schedule,
    *,
    freeze_steps: int,
    clip_norm: float | None = CLIP_NORM,
) -> optax.GradientTransformation:
    """Return AdamW (betas 0.9 and 0.999, eps 1e-8) as in DINO's released recipe.

    Weight decay is decoupled, multiplied by the learning rate, and shrinks all parameters of two
    or more dimensions: kernels, class token and position embedding, but no bias and no norm. The
    last layer takes part from step ``freeze_steps`` on: before, neither its parameters nor its
    moments nor their bias correction move.

    Args:
        learning_rate: by the step.
        weight_decay: by the step.
        freeze_steps: steps without the last layer; DINO takes one epoch.
        clip_norm: largest norm of the gradient of each tensor; ``None`` clips nothing.
    """

    def adamw(first_step: int) -> optax.GradientTransformation:
        # Every part counts its own steps.
        return optax.chain(
            optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
            optax.add_decayed_weights(lambda count: weight_decay(count + first_step), _decays),
            optax.scale_by_learning_rate(lambda count: learning_rate(count + first_step)),
        )

    waiting = optax.conditionally_mask(
        adamw(freeze_steps), should_transform_fn=lambda step: step >= freeze_steps
    )
    return optax.chain(
        clip_each_by_norm(clip_norm) if clip_norm is not None else optax.identity(),
        optax.partition({"others": adamw(0), LAST_LAYER: waiting}, _labels),
    )


def clip_each_by_norm(largest: float) -> optax.GradientTransformation:
    """Scale the gradient of each tensor that is longer down to a norm.

    As in the released code, by min(1, largest / (norm + 1e-6)).

    Args:
        largest: norm, positive.
    """

    def clip(gradient: Array) -> Array:
        norm = jnp.sqrt(jnp.sum(gradient**2))
        return gradient * jnp.minimum(largest / (norm + CLIP_EPS), 1)

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates))


def _labels(params: Any) -> Any:
    def label(path: tuple[Any, ...], _: Any) -> str:
        inside = any(getattr(part, "key", None) == LAST_LAYER for part in path)
        return LAST_LAYER if inside else "others"

    return jax.tree_util.tree_map_with_path(label, params)


def _decays(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim >= 2, params)
