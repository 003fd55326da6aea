"""A batch in parts, one after the other: memory for the activations of one part alone."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Carry = TypeVar("Carry")
Means = TypeVar("Means")


def accumulate(
    function: Callable[..., tuple[Carry, Means]], carry: Carry, batch: tuple[Any, ...], count: int
) -> tuple[Carry, Means]:
    """Call a function with each micro-batch in order, and average what it returns.

    Images ``k, k + n, k + 2n, ...`` are micro-batch ``k`` of ``n``.

    Args:
        function: ``(carry, *micro_batch) -> (carry, values)``; what it carries on keeps its
            structure, shapes and types.
        carry: given to the first call.
        batch: trees of arrays ``[B, ...]``.
        count: number of micro-batches; with 1 this is the function itself.

    Returns:
        What the last call carries on, and the mean of the values over all calls.

    Raises:
        ValueError: if ``count`` is not positive, or does not divide B.
    """
    if count == 1:
        return function(carry, *batch)
    size = jax.tree.leaves(batch)[0].shape[0]
    if count < 1 or size % count:
        raise ValueError(f"the {size} images of a device are not {count} equal micro-batches")
    # [B, ...] -> [n, B / n, ...], image i into micro-batch i mod n
    micro_batches = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(size // count, count, *x.shape[1:]), 0, 1), batch
    )
    first = jax.tree.map(lambda x: x[0], micro_batches)
    shapes = jax.eval_shape(lambda: function(carry, *first)[1])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    # Sums are carried along: stacked gradients would take the memory that is to be saved.
    def add(
        carried: tuple[Carry, Means], micro_batch: tuple[Any, ...]
    ) -> tuple[tuple[Carry, Means], None]:
        new_carry, values = function(carried[0], *micro_batch)
        return (new_carry, jax.tree.map(jnp.add, carried[1], values)), None

    (carry, sums), _ = lax.scan(add, (carry, zeros), micro_batches)
    return carry, jax.tree.map(lambda x: x / count, sums)
