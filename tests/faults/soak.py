"""Trains in this process and tells what it took: ``python -m tests.faults.soak REQUEST.json``."""

import contextlib
import ctypes
import json
import sys
from pathlib import Path

import jax.monitoring
import psutil

from configs.tricks import get_config
from sempart_jax.train import train
from sempart_jax.training.segmentation import SegmentationTask

LOOK_EVERY = 20
"""Steps between two looks at the memory."""
_COMPILED = "/jax/core/compile/backend_compile_duration"


def own_bytes():
    """Memory in use: without mapped files, of which the system keeps what it likes.

    What was freed goes back to the system first; malloc would keep up to half as much again.
    """
    with contextlib.suppress(OSError, AttributeError):  # not every system has glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    process = psutil.Process()
    infos = [p.memory_info() for p in (process, *process.children(recursive=True))]
    return sum(info.rss - getattr(info, "shared", 0) for info in infos)


def main(workdir, fields):
    config = get_config()
    config.update_from_flattened_dict(fields)
    compiled, looks = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event == _COMPILED else None
    )
    take_step, taken = SegmentationTask.take_step, []

    def take_step_and_look(self, state, examples):
        after = take_step(self, state, examples)
        taken.append(None)
        if len(taken) % LOOK_EVERY == 0:
            looks.append((len(taken), own_bytes(), len(compiled)))
        return after

    SegmentationTask.take_step = take_step_and_look
    train(config, Path(workdir))
    print(json.dumps(looks))


if __name__ == "__main__":
    main(**json.loads(Path(sys.argv[1]).read_text()))
