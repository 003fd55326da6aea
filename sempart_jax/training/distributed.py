"""Several processes of one training run, by ``jax.distributed``.

They find each other, compare what they were given, and start from the state of process 0, which
alone writes files. When one of them is lost, ``jax.distributed`` notices by its heartbeat and
aborts the others. The same command, started again for all, continues the run from its last
checkpoint.
"""

import contextlib
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from sempart_jax.host.command_line import EXPECTED_ERRORS
from sempart_jax.host.stop_signals import StoppedRunError
from sempart_jax.two_tricks.train_step import connect_devices

JOINING_TIMEOUT_SECONDS = 300
"""How long the first process waits for the last one to start."""

HEARTBEAT_TIMEOUT_SECONDS = 30
"""Silence after which a process, or its machine, counts as lost. Where a connection breaks, as when
a process is killed, the others notice at once."""

_WRITER_LINGERS_SECONDS = 3.0
"""Process 0 holds the others together: what ends all of them, they shall say before it is gone."""

_NOT_JOINED = (
    "this process has not found the other processes of the run. Check that all were started within "
    f"{JOINING_TIMEOUT_SECONDS} seconds with the address of process 0 as coordinator address, that "
    "its port is free there, and that it can be reached from here"
)
_LOST = (
    "another process of the run has died (see its output), or this one was stopped. Start all "
    "processes again with the same command to continue from the last checkpoint"
)


def is_writer() -> bool:
    """Whether this process writes the files of the run."""
    return bool(jax.process_index() == 0)


def asked_to_stop(step: int) -> bool:
    """Whether the run shall end after this step, because one of its processes has got SIGTERM.

    Launchers send it before a job's time is up. All processes get the same answer at the same step,
    one of the next after the signal. A process that is alone has
    :class:`sempart_jax.host.stop_signals.StopSignals`.

    Args:
        step: number of steps taken; every process asks after each.
    """
    if not jax.distributed.is_initialized():
        return False
    return bool(multihost_utils.reached_preemption_sync_point(step))


@contextlib.contextmanager
def joined(
    coordinator_address: str = "", num_processes: int = 0, process_id: int = -1
) -> Iterator[None]:
    """Make this process one of several, and let them end together.

    Comes before anything that asks JAX for its devices. What is not given is detected by
    ``jax.distributed.initialize`` (SLURM, Open MPI, Kubernetes, Cloud TPU).

    An exception inside ends this process at once with its message and status 1, because leaving in
    order would wait for the others, which wait for this one; but :class:`StoppedRunError`, which
    all of them raise, leaves in order.

    Args:
        coordinator_address: ``host:port`` where process 0 can be reached; empty to detect.
        num_processes: number of processes; 0 to detect.
        process_id: number of this one; negative to detect.

    Raises:
        ValueError: if nothing is given and no launcher is detected, if process 0 cannot listen at
            the address that is given, if the processes do not find each other, or if they have
            different numbers of devices.
        StoppedRunError: if it is raised inside.
    """
    if process_id == 0 and coordinator_address:
        _check_port(coordinator_address)
    _initialize(coordinator_address, num_processes, process_id)
    try:
        _check_devices()
        # Devices connect at their first common call and then wait for 30 seconds alone, on a CPU,
        # while one process may well load its images or weights for longer than the others.
        connect_devices()
        multihost_utils.sync_global_devices("joined")
        stopped = None
        try:
            yield
        except StoppedRunError as error:
            stopped = error
        multihost_utils.sync_global_devices("end of run")
    except (Exception, KeyboardInterrupt) as error:
        _end_without_the_others(error)
    jax.distributed.shutdown()
    if stopped is not None:
        raise stopped


def check_agreement(values: Mapping[str, Any]) -> None:
    """Raise ValueError in all processes if they were given different values; each calls it."""
    everyone = _gather(values)
    lines = []
    for name in dict.fromkeys(name for given in everyone for name in given):
        holders: dict[str, list[int]] = {}
        for process, given in enumerate(everyone):
            value = repr(given[name]) if name in given else "absent"
            holders.setdefault(value, []).append(process)
        if len(holders) > 1:
            said = (f"{value} in {_processes(numbers)}" for value, numbers in holders.items())
            lines.append(f"  {name}: {', '.join(said)}")
    if lines:
        listed = "\n".join(lines)
        raise ValueError(
            f"the processes of this run differ in\n{listed}\n"
            "Start all of them with the same configuration, images and weights."
        )


def broadcast_from_writer(tree: Any) -> Any:
    """Give every process the arrays of process 0, bit for bit; every process calls it.

    Args:
        tree: tree of host arrays; in the others its structure, shapes and types alone matter.

    Returns:
        The tree of process 0, on the host.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    arrays = [np.ascontiguousarray(leaf) for leaf in leaves]
    # As bytes: numbers are sent as sums with zeros, in which -0 would become 0.
    sent = np.concatenate([array.reshape(-1).view(np.uint8) for array in arrays])
    received = multihost_utils.broadcast_one_to_all(sent)
    ends = np.cumsum([array.nbytes for array in arrays])[:-1]
    parts = np.split(np.asarray(received), ends)
    return jax.tree.unflatten(
        structure,
        [
            part.view(array.dtype).reshape(np.shape(leaf))
            for part, array, leaf in zip(parts, arrays, leaves, strict=True)
        ],
    )


def _initialize(coordinator_address: str, num_processes: int, process_id: int) -> None:
    try:
        jax.distributed.initialize(
            coordinator_address or None,
            num_processes or None,
            None if process_id < 0 else process_id,
            initialization_timeout=JOINING_TIMEOUT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            f"no launcher of several processes was detected ({error}) Start them with srun or "
            "mpirun, or set config.coordinator_address=HOST:PORT of process 0, "
            "config.num_processes, and config.process_id of each"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"{_NOT_JOINED} ({error})") from error


def _check_port(coordinator_address: str) -> None:
    """Raise if process 0 cannot listen: jaxlib 0.10.2 ends there by a segmentation fault."""
    address = ("", int(coordinator_address.rpartition(":")[2]))
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        listener = socket.create_server(
            address, family=family, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        raise ValueError(
            f"process 0 cannot listen at {coordinator_address}: {error}. Choose a free port"
        ) from error
    listener.close()


def _check_devices() -> None:
    counts = [len(jax.local_devices(process)) for process in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise ValueError(
            f"every process must have the same number of devices, got {counts} in processes 0 to "
            f"{len(counts) - 1}"
        )


def _gather(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = np.frombuffer(json.dumps(values).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([text.size], np.int32))[:, 0]
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: text.size] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def _processes(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers))
    return f"process {listed}" if len(numbers) == 1 else f"processes {listed}"


def _this_process() -> str:
    return f"process {jax.process_index()} of {jax.process_count()}"


def _end_without_the_others(error: BaseException) -> NoReturn:
    """Say why, and end this process."""
    if isinstance(error, KeyboardInterrupt):
        said = "interrupted. Repeat the command to continue from the last checkpoint"
    elif isinstance(error, EXPECTED_ERRORS):
        said = str(error)
    elif isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
        said = f"a step failed, most likely because {_LOST}.\nThe error here: {error}"
    else:
        said = "".join(traceback.format_exception(error))
    print(f"error: {_this_process()}: {said}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if is_writer():
        time.sleep(_WRITER_LINGERS_SECONDS)
    os._exit(1)
