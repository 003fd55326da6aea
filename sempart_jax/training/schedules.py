"""What changes in the course of a pretraining: pure functions of the step.

After ``cosine_scheduler`` of the released DINO: the values of a run of n steps are those of
``concatenate(linspace(start, base, w), cosine(arange(n - w) / (n - w)))``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

Schedule = Callable[[Array], Array]
"""From the number of steps taken, int32, to a float32 scalar."""


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
            f"the warm-up takes {warmup_steps} steps, and the run {total_steps}: shorten the one "
            "or lengthen the other"
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
    """Go from ``start`` at step 0 to ``final`` at step ``warmup_steps - 1``, and stay there.

    Args:
        step: number of steps taken, int32.
        start: value at step 0, unless there is no warm-up.
        final: value after it.
        warmup_steps: steps of the warm-up.
    """
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

    Args:
        total_steps: steps of the run.
        batch_size: images of a step on all devices; the learning rate grows with them.
        warmup_steps: steps in which the learning rate rises from 0; DINO takes 10 epochs.
        temperature_warmup_steps: steps in which the teacher's temperature rises.
        learning_rate_per_256: highest learning rate for 256 images a step.
        final_learning_rate: at the end of the run.
        weight_decay: at the start.
        final_weight_decay: at the end.
        teacher_momentum: at the start; at the end it is 1.
        teacher_temperature: after its warm-up.
        first_teacher_temperature: at the start of it.

    Raises:
        ValueError: the warm-up is longer than the run, at the first call of the learning rate.
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
