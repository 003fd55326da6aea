"""How much memory a command takes at most, its worker processes included (Linux)."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands import REPOSITORY, command_environment

needs_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory of processes is read from /proc"
)


class Measured(NamedTuple):
    """What a command has done.

    Attributes:
        returncode: exit status.
        output: stdout and stderr.
        peak_megabytes: sum of the peak resident sets of all its processes.
    """

    returncode: int
    output: str
    peak_megabytes: float


def run_measured(name: str, *arguments: object, timeout: float = 600) -> Measured:
    """Run ``python -m sempart_jax.NAME`` as :func:`tests.commands.run_module` does."""
    peaks: dict[int, int] = {}
    with tempfile.TemporaryFile("w+b") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"sempart_jax.{name}", *map(str, arguments)],
            cwd=REPOSITORY,
            env=command_environment() | {"PYTHONIOENCODING": "utf-8:strict"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + timeout
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline, f"{name} did not end in {timeout} s"
                for number in _family(process.pid):
                    peaks[number] = max(peaks.get(number, 0), peak_kilobytes(number))
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        text = output.read().decode(errors="backslashreplace")
    return Measured(process.returncode, text, sum(peaks.values()) / 1024)


def _family(number: int) -> list[int]:
    """List a process and all below it."""
    found = [number]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # It has just ended.
            continue
    return found


def peak_kilobytes(number: int) -> int:
    """Read the highest resident memory of a process so far, 0 where it has ended."""
    try:
        status = Path(f"/proc/{number}/status").read_text()
    except OSError:
        return 0
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) if match else 0
