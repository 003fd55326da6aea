"""Which device each side computes on, and whether the two can be compared."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .paired import Pair, Side, started


class Device(NamedTuple):
    """What one library computes on.

    Attributes:
        platform: ``cpu``, ``gpu`` or another of JAX's names.
        name: what the device is called.
    """

    platform: str
    name: str


BUILDERS = {
    "JAX": "benchmarking.jax_workloads:device",
    "PyTorch": "benchmarking.torch_workloads:device",
}
_MODULES = {
    "JAX": ("benchmarking.jax_workloads", "benchmarking.jax_parts", "benchmarking.jax_kernels"),
    "PyTorch": ("benchmarking.torch_workloads", "benchmarking.torch_parts"),
}


def find_devices(pairs: Sequence[Pair]) -> dict[str, Device]:
    """Ask each library that some pairs need for its device.

    Args:
        pairs: what will be measured.

    Returns:
        The devices by the library.

    Raises:
        ValueError: if a pair holds a CPU against an accelerator.
    """
    sides = [_libraries(pair) for pair in pairs]
    devices = {
        library: _ask(BUILDERS[library]) for library in BUILDERS if any(library in s for s in sides)
    }
    if any(len(libraries) == 2 for libraries in sides):
        check_devices(devices)
    return devices


def check_devices(devices: Mapping[str, Device]) -> None:
    """Check that JAX and PyTorch compute on the same kind of device.

    Raises:
        ValueError: if they do not.
    """
    ours, theirs = devices["JAX"], devices["PyTorch"]
    if ours.platform == theirs.platform:
        return
    if ours.platform == "cpu":
        mend = (
            "install JAX for the GPU, pip install -e '.[bench,cuda12]' (or cuda13), "
            "or hide it by CUDA_VISIBLE_DEVICES= to compare on the CPU"
        )
    else:
        mend = (
            "install a PyTorch that sees this device (https://pytorch.org), "
            "or set JAX_PLATFORMS=cpu to compare on the CPU"
        )
    raise ValueError(
        f"JAX computes on {ours.name} ({ours.platform}) and PyTorch on {theirs.name} "
        f"({theirs.platform}), which says nothing of either: {mend}"
    )


def _libraries(pair: Pair) -> set[str]:
    used = {side.builder.split(":")[0] for side in (pair.ours, pair.theirs)}
    return {library for library, modules in _MODULES.items() if used.intersection(modules)}


def _ask(builder: str) -> Device:
    side = Side("device", builder)
    with started(side) as child:
        return Device(*child.call(side))
