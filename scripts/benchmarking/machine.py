"""What was measured on, so that numbers can be held against others."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "scipy",
    "pillow",
    "grain",
    "torch",
    "opencv-contrib-python-headless",
)


def describe_machine() -> dict[str, Any]:
    """Describe processor, memory, system and versions; what cannot be found out is ``None``."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or None,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_gigabytes": _memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def require_packages(names: Iterable[str]) -> None:
    """Check that what ours is compared with is installed.

    Raises:
        ModuleNotFoundError: if a package is not.
    """
    missing = sorted(name for name in names if _version(name) is None)
    if missing:
        raise ModuleNotFoundError(
            f"ours is compared with {' and '.join(missing)}, not installed here: "
            "pip install -e '.[bench]' ('.[bench,cuda12]' on an NVIDIA GPU), or measure our "
            "kernels alone by --only=kernels"
        )


def load_average() -> float:
    """Processes that wanted to run in the last minute, on average."""
    return os.getloadavg()[0]


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _memory() -> float | None:
    kilobytes = _field("/proc/meminfo", "MemTotal")
    return None if kilobytes is None else round(int(kilobytes.split()[0]) / 2**20, 1)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
