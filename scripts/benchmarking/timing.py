"""Seconds of a call whose work goes on after it has returned."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

SAMPLE_SECONDS = 0.5
"""Calls that are shorter are repeated to fill a sample of so much: the device has to stay busy."""


def time_calls(call: Callable[[], Any], samples: int) -> list[float]:
    """Call again and again, and wait for the device at the end of each sample alone.

    Args:
        call: starts the work and returns arrays, those of the last call the last to be there.
        samples: how many.

    Returns:
        Seconds of one call, for each sample.
    """
    jax.block_until_ready(call())
    started = time.perf_counter()
    jax.block_until_ready(call())
    calls = max(1, math.ceil(SAMPLE_SECONDS / max(time.perf_counter() - started, 1e-6)))
    seconds = []
    for _ in range(samples):
        started = time.perf_counter()
        for _ in range(calls):
            results = call()
        jax.block_until_ready(results)
        seconds.append((time.perf_counter() - started) / calls)
    return seconds
