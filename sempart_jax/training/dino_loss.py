"""DINO's loss, its centre, and what tells a collapse (arXiv 2104.14294, Sec. 3.1 and 5.3).

All in float32, whatever the logits are, and without an array for each pair of views.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

STUDENT_TEMPERATURE = 0.1
CENTER_MOMENTUM = 0.9


class TeacherStatistics(NamedTuple):
    """Means over the images and global views of a batch, which add up over parts of it.

    Attributes:
        entropy: mean entropy in nats of the distribution of one view of one image, between 0 and
            log K: log K if the teacher tells nothing apart.
        mean_probabilities: mean distribution.
        mean_logits: mean of the logits, neither centred nor sharpened.
    """

    entropy: Float[Array, ""]
    mean_probabilities: Float[Array, " K"]
    mean_logits: Float[Array, " K"]


def teacher_probabilities(
    logits: Float[Array, "views B K"],
    center: Float[Array, " K"],
    temperature: float | Float[Array, ""],
) -> Float[Array, "views B K"]:
    """Return the targets softmax((g - c) / tau), centred and sharpened, without gradient."""
    logits = lax.stop_gradient(logits).astype(jnp.float32)
    return jax.nn.softmax((logits - center[None, None]) / temperature, axis=-1)


def dino_loss(
    student_logits: Float[Array, "crops B K"],
    targets: Float[Array, "views B K"],
    temperature: float = STUDENT_TEMPERATURE,
) -> Float[Array, ""]:
    """Compute the mean cross-entropy of each crop with each other global view of its image.

    Args:
        student_logits: of the student: first the global views in the order of the teacher, then
            the local crops.
        targets: distributions of the teacher, of two global views or more.
        temperature: tau of the student.

    Returns:
        Mean over images and pairs, in nats (Eq. 3 with the mean over pairs in place of their sum,
        as in the released code).

    Raises:
        ValueError: the student has fewer crops than there are global views, or there is no pair.
    """
    crops, views = student_logits.shape[0], targets.shape[0]
    pairs = views * crops - views
    if crops < views or pairs == 0:
        raise ValueError(
            f"{views} global views of the teacher and {crops} crops of the student: there must "
            "be two views or more, and the student must see all of them"
        )
    scaled = student_logits.astype(jnp.float32) / temperature
    # Σ_t H(p_t, s) = n logsumexp(s) - <Σ_t p_t, s>, where the n targets t leave out the crop itself
    of_all = jnp.sum(targets, axis=0, keepdims=True)
    counts = jnp.asarray([views - 1] * views + [views] * (crops - views), jnp.float32)
    entropies = counts[:, None] * jax.nn.logsumexp(scaled, axis=-1)
    agreement = jnp.sum((of_all - targets) * scaled[:views], axis=-1)
    total = jnp.sum(entropies, axis=0) - jnp.sum(agreement, axis=0)
    total = total - jnp.sum(of_all * scaled[views:], axis=(0, 2))
    return jnp.mean(total) / pairs


def measure_teacher(
    logits: Float[Array, "views B K"], targets: Float[Array, "views B K"]
) -> TeacherStatistics:
    """Measure how sharp the teacher is and which outputs it uses."""
    return TeacherStatistics(
        # H(p) = -Σ p log p, 0 where p is 0
        entropy=jnp.mean(jnp.sum(jax.scipy.special.entr(targets), axis=-1)),
        mean_probabilities=jnp.mean(targets, axis=(0, 1)),
        mean_logits=jnp.mean(logits.astype(jnp.float32), axis=(0, 1)),
    )


def mean_entropy(mean_probabilities: Float[Array, " K"]) -> Float[Array, ""]:
    """Return the entropy of the mean distribution in nats: 0 if all images go to one output."""
    return jnp.sum(jax.scipy.special.entr(mean_probabilities))


def update_center(
    center: Float[Array, " K"],
    mean_logits: Float[Array, " K"],
    momentum: float = CENTER_MOMENTUM,
) -> Float[Array, " K"]:
    """Move the centre to the mean of the teacher's logits: c <- m c + (1 - m) mean(g) (Eq. 4)."""
    return momentum * center + (1 - momentum) * mean_logits
