"""The devices that a program computes on."""

import sys

import jax


def check_gpu(required: bool) -> None:
    """Refuse to compute on anything but GPUs where they are ``required``, by a ValueError."""
    if required and jax.default_backend() != "gpu":
        raise ValueError(
            f"--require_gpu: JAX finds no GPU, only {describe_devices()}. Install its CUDA version "
            "(pip install 'sempart_jax[cuda12]') and check the driver with nvidia-smi"
        )


def describe_devices() -> str:
    """Count and name all devices, and the processes if there are several."""
    devices, processes = jax.devices(), jax.process_count()
    described = f"{len(devices)} x {devices[0].device_kind}"
    return described if processes == 1 else f"{described} in {processes} processes"


def tell_devices(dtype: str) -> None:
    """Say on what, and in which types, a program computes; on stderr, apart from results."""
    print(f"computing on {describe_devices()} in {dtype}", file=sys.stderr)
