"""Ours at one batch size: how long it takes, what memory, and whether it fits at all.

Called in a process of its own, whose peak memory is that of the largest batch so far.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sempart_jax.two_tricks.interfaces import Examples
from sempart_jax.two_tricks.train_step import replicate

from .device import memory_statistics
from .sempart_programs import make_inference, make_training
from .timing import time_calls

WORKS = {
    "tricks": "training step, both tricks",
    "baseline": "training step, no trick",
    "refined": "inference, with guided filter",
    "fine": "inference, without guided filter",
}
FUSED_ATTENTION = "__cudnn$fmha"
"""Stands in a compiled program that calls cuDNN's attention."""


class Compiled(NamedTuple):
    """A work that is ready to run.

    Attributes:
        on_device: starts it on images that lie on the device, and leaves the results there.
        from_host: the same from images on the host; masks go back there.
        fused_attention: whether it calls cuDNN's attention.
        seconds: what the compilation took.
    """

    on_device: Callable[[], Any]
    from_host: Callable[[], Any]
    fused_attention: bool
    seconds: float


def measure_work(
    *, work: str, backbone: str, side: int, batch: int, dtype: str, samples: int
) -> dict[str, Any]:
    """Measure a work.

    Args:
        work: one of :data:`WORKS`.
        backbone: name of the backbone.
        side: of an image in pixels.
        batch: images a call.
        dtype: one of ``sempart_programs.DTYPES``.
        samples: how many are measured.

    Returns:
        ``fits``, and where it does ``seconds`` and ``host_seconds`` of each sample,
        ``compile_seconds``, ``fused_attention`` and ``peak_bytes``, ``None`` where it is not told.
    """

    def measure() -> dict[str, Any]:
        compiled = _compile(work, backbone, side, batch, dtype)
        return {
            "fits": True,
            "seconds": time_calls(compiled.on_device, samples),
            "host_seconds": time_calls(compiled.from_host, samples),
            "compile_seconds": compiled.seconds,
            "fused_attention": compiled.fused_attention,
            "peak_bytes": memory_statistics().get("peak_bytes_in_use"),
        }

    return unless_out_of_memory(measure) or {"fits": False}


def fits(*, work: str, backbone: str, side: int, batch: int, dtype: str) -> bool:
    """Say whether a work runs twice without running out of the device's memory.

    Args:
        work: one of :data:`WORKS`.
        backbone: name of the backbone.
        side: of an image in pixels.
        batch: images a call.
        dtype: one of ``sempart_programs.DTYPES``.
    """

    def run() -> bool:
        compiled = _compile(work, backbone, side, batch, dtype)
        for _ in range(2):
            jax.block_until_ready(compiled.from_host())
        return True

    return unless_out_of_memory(run) or False


def unless_out_of_memory(run: Callable[[], Any]) -> Any:
    """Return what a function returns, or ``None`` if the device has no memory left for it.

    Raises:
        jax.errors.JaxRuntimeError: whatever else the device says.
    """
    try:
        return run()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


def _compile(work: str, backbone: str, side: int, batch: int, dtype: str) -> Compiled:
    options: Any = {"backbone": backbone, "side": side, "batch": batch, "dtype": dtype}
    if work in ("tricks", "baseline"):
        return _compile_training(options, tricks=work == "tricks")
    return _compile_inference(options, refined=work == "refined")


def _compile_training(options: Any, *, tricks: bool) -> Compiled:
    step, state, frozen_params, images = make_training(**options, tricks=tricks)
    examples = Examples(replicate(images[0], jax.local_devices()[:1]))
    started = time.perf_counter()
    compiled = step.lower(state, frozen_params, examples).compile()
    seconds = time.perf_counter() - started

    def run(examples: Examples) -> Any:
        nonlocal state
        state, metrics = compiled(state, frozen_params, examples)
        return state, metrics

    return Compiled(
        lambda: run(examples),
        lambda: run(Examples(images)),
        FUSED_ATTENTION in compiled.as_text(),
        seconds,
    )


def _compile_inference(options: Any, *, refined: bool) -> Compiled:
    predict, frozen_params, variables, images = make_inference(**options, refined=refined)
    on_device = jax.device_put(images, jax.local_devices()[0])
    started = time.perf_counter()
    compiled = predict.lower(frozen_params, variables, on_device).compile()
    seconds = time.perf_counter() - started
    return Compiled(
        lambda: compiled(frozen_params, variables, on_device),
        lambda: np.asarray(compiled(frozen_params, variables, images)),
        FUSED_ATTENTION in compiled.as_text(),
        seconds,
    )
