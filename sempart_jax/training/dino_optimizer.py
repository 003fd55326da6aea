"""AdamW as DINO uses it: clipping tensor by tensor, two schedules, a last layer that waits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int

CLIP_NORM = 3.0
CLIP_EPS = 1e-6
LAST_LAYER = "last_layer"
"""Name of the layer that waits, anywhere in the tree of parameters."""

Schedule = Callable[[Array], Array]
"""From the number of steps taken, int32, to a float32 scalar."""


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


class Schedules(NamedTuple):
    """What a pretraining step reads at each step.

    Attributes:
        learning_rate: of AdamW.
        weight_decay: of AdamW, multiplied by the learning rate there.
        teacher_momentum: part of the teacher that stays, in [0, 1].
        teacher_temperature: by which the teacher's logits are divided.
    """

    learning_rate: Schedule
    weight_decay: Schedule
    teacher_momentum: Schedule
    teacher_temperature: Schedule


def warmed_up_cosine(
    step: Int[Array, ""],
    *,
    base: float,
    final: float,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_start: float = 0.0,
) -> Float[Array, ""]:
    """Rise linearly from ``warmup_start`` to ``base``, then follow half a cosine to ``final``.

    The first of the ``warmup_steps`` has ``warmup_start``, the last one ``base``. ``final`` is
    that of ``step >= total_steps``, one after the last step of the run.

    Args:
        step: number of steps taken, int32.
        base: value after the warm-up.
        final: value at the end.
        total_steps: steps of the run.
        warmup_steps: steps of the warm-up, at most ``total_steps``.
        warmup_start: value at step 0, if there is a warm-up.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"the warm-up takes {warmup_steps} steps, but the run has only {total_steps}: shorten "
            "the warm-up, or make the run longer"
        )
    # f + (b - f) (1 + cos(π i / n)) / 2 = f + (b - f) sin²(π (n - i) / 2n), which loses no digits
    # at the end, and counts in whole numbers as long as it can.
    remaining = jnp.clip(total_steps - step, 0).astype(jnp.float32)
    quarter_turns = remaining / max(total_steps - warmup_steps, 1)
    after = final + (base - final) * jnp.sin(jnp.pi / 2 * quarter_turns) ** 2
    if not warmup_steps:
        return after
    warming = linear_warmup(step, start=warmup_start, final=base, warmup_steps=warmup_steps)
    return jnp.where(step < warmup_steps, warming, after)


def linear_warmup(
    step: Int[Array, ""], *, start: float, final: float, warmup_steps: int
) -> Float[Array, ""]:
    """Go from ``start`` at step 0 to ``final`` at step ``warmup_steps - 1``, and stay there."""
    # as linspace has it: a single step is the start
    fraction = jnp.clip(step.astype(jnp.float32) / max(warmup_steps - 1, 1), 0, 1)
    return jnp.where(step < warmup_steps, start + (final - start) * fraction, final)


def dino_schedules(
    *,
    total_steps: int,
    batch_size: int,
    warmup_steps: int,
    temperature_warmup_steps: int,
    learning_rate_per_256: float = 0.0005,
    final_learning_rate: float = 1e-6,
    weight_decay: float = 0.04,
    final_weight_decay: float = 0.4,
    teacher_momentum: float = 0.996,
    teacher_temperature: float = 0.07,
    first_teacher_temperature: float = 0.04,
) -> Schedules:
    """Return DINO's schedules (arXiv 2104.14294, Sec. 3.2 and Appendix C).

    All of them go by the step; in the released code the temperature goes by the epoch.
    """

    def cosine(base: float, final: float, warmup_steps: int = 0) -> Schedule:
        return lambda step: warmed_up_cosine(
            step, base=base, final=final, total_steps=total_steps, warmup_steps=warmup_steps
        )

    return Schedules(
        learning_rate=cosine(
            learning_rate_per_256 * batch_size / 256, final_learning_rate, warmup_steps
        ),
        weight_decay=cosine(weight_decay, final_weight_decay),
        teacher_momentum=cosine(teacher_momentum, 1.0),
        teacher_temperature=lambda step: linear_warmup(
            step,
            start=first_teacher_temperature,
            final=teacher_temperature,
            warmup_steps=temperature_warmup_steps,
        ),
    )
