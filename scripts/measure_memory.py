"""Measure the peak memory of a mask or of a training step: what resolution fits a machine.

    python scripts/measure_memory.py tricks --side 1280

Prints, in a process of its own, the seconds of each call by the clock and of processor, the highest
resident memory, and the most that was in use on a device with memory of its own. The network is
Sempart over a backbone of random weights. Compiled programs are not kept, so that the first call
compiles.
"""

import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from sempart_jax.host import command_line

WORKS = ("mask", "baseline", "tricks")
"""A mask without the guided filter; a training step without tricks; one with both."""

_BACKBONE = flags.DEFINE_string("backbone", "dino_vits8", "Backbone with patches of 8 pixels.")
_SIDE = flags.DEFINE_integer("side", 320, "Side of the image in pixels.", lower_bound=8)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images.", lower_bound=1)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Type of the backbone's matrix products."
)
_CALLS = flags.DEFINE_integer("calls", 2, "The first one compiles.", lower_bound=1)


def peak_gibibytes() -> float:
    """Return the highest resident memory of this process so far, in units of 2^30 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands the ru_maxrss of the process that starts a program on to the program.
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if kilobytes is not None:
            return int(kilobytes[1]) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _main(works: Sequence[str]) -> None:
    if len(works) != 1 or works[0] not in WORKS:
        raise ValueError(f"name one work among {', '.join(WORKS)}, got {' '.join(works) or 'none'}")
    # What is mistyped has been told before JAX is imported.
    import jax
    from benchmarking.device import memory_statistics
    from benchmarking.jax_workloads import inference, training

    jax.config.update("jax_enable_compilation_cache", False)
    (name,) = works
    options: Any = {
        "backbone": _BACKBONE.value,
        "batch": _BATCH_SIZE.value,
        "side": _SIDE.value,
        "dtype": _DTYPE.value,
    }
    if name == "mask":
        work = inference(**options, refined=False)
    else:
        work = training(**options, tricks=name == "tricks")
    for call in range(1, _CALLS.value + 1):
        started, processor = time.perf_counter(), time.process_time()
        work.run()
        print(
            f"call {call}: {time.perf_counter() - started:.1f} s, "
            f"processor {time.process_time() - processor:.1f} s",
            flush=True,
        )
    print(f"{name}, {_SIDE.value} px: {peak_gibibytes():.2f} GiB")
    on_device = memory_statistics().get("peak_bytes_in_use")
    if on_device is not None:
        print(f"on {work.device}: {on_device / 2**30:.2f} GiB")


if __name__ == "__main__":
    command_line.run(_main, positional=True)
