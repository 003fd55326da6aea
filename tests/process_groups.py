"""Start several processes of one run on this machine, each with CPU devices of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from tests.commands import QUICKLY_COMPILED, REPOSITORY, SMALL

TRAIN = ["-m", "sempart_jax.train", "--config", "configs/tricks.py"]


def free_port():
    """A port that nothing listens at just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_arguments(workdir, images, **fields):
    """Arguments of python that train with ``SMALL``; ``a__b=1`` overrides the field ``a.b``."""
    fields = SMALL | {"data.train": images} | {k.replace("__", "."): v for k, v in fields.items()}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return [*TRAIN, "--workdir", str(workdir), *flags]


class Group:
    """Processes that were started together; use as a context manager, which leaves none behind."""

    def __init__(self, commands, *, devices, environments=None):
        """Start python with each of several lists of arguments."""
        self._output = tempfile.TemporaryDirectory(prefix="sempart_jax_tests_")
        self.processes = []
        for index, arguments in enumerate(commands):
            environment = {
                **os.environ,
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
                + QUICKLY_COMPILED,
                "JAX_PLATFORMS": "cpu",
                **(environments[index] if environments else {}),
            }
            with open(f"{self._output.name}/{index}", "wb") as output:  # noqa: PTH123
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *map(str, arguments)],
                        cwd=REPOSITORY,
                        env=environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        # A signal to the group of one shall not reach the tests.
                        start_new_session=True,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        self._output.cleanup()

    def wait(self, timeout=400):
        """Wait for all; returns their exit statuses."""
        ends = time.monotonic() + timeout
        return [process.wait(max(ends - time.monotonic(), 0.1)) for process in self.processes]

    def said(self, index):
        """What a process has printed so far."""
        with open(f"{self._output.name}/{index}", errors="replace") as output:  # noqa: PTH123
            return output.read()

    def everything(self):
        """What all have printed, for the message of a failed test."""
        return "\n---\n".join(self.said(index) for index in range(len(self.processes)))


def run_training_group(workdir, images, *, processes=2, devices=2, own_fields=None, **fields):
    """Train in several processes with an explicit coordinator, or in one with several devices."""
    launch = {}
    if processes > 1:
        launch = {
            "distributed": True,
            "coordinator_address": f"127.0.0.1:{free_port()}",
            "num_processes": processes,
        }
    commands = []
    for index in range(processes):
        own = {"process_id": index} if processes > 1 else {}
        own |= own_fields[index] if own_fields else {}
        commands.append(train_arguments(workdir, images, **(fields | launch | own)))
    return Group(commands, devices=devices)
