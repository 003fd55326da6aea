"""What JAX tells of the device that it computes on."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import jax

_DRIVER = Path("/proc/driver/nvidia/version")


def describe_device() -> dict[str, Any]:
    """Describe the first device, its driver and its libraries; what is not told is ``None``."""
    device = jax.local_devices()[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.local_device_count(),
        "memory_bytes": memory_statistics().get("bytes_limit"),
        "client": " ".join(device.client.platform_version.split()),
        "driver": _DRIVER.read_text().splitlines()[0] if _DRIVER.exists() else None,
        "packages": _packages(),
        "matmul_precision": jax.config.jax_default_matmul_precision,
    }


def memory_statistics() -> dict[str, int]:
    """Bytes by what they are of, as ``bytes_limit`` and ``peak_bytes_in_use``; empty on a CPU."""
    return dict(jax.local_devices()[0].memory_stats() or {})


def _packages() -> dict[str, str]:
    """Versions of JAX and of all NVIDIA libraries that come as packages, cuDNN among them."""
    versions = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if re.match(r"(?i)jax|nvidia|flax$|optax$", distribution.name or "")
    }
    return dict(sorted(versions.items()))
