"""Which devices are compared."""

import pytest

from scripts.benchmarking import compared_devices
from scripts.benchmarking.compared_devices import Device, check_devices, find_devices
from scripts.benchmarking.workloads import Size, all_pairs

CPU, GPU = Device("cpu", "cpu"), Device("gpu", "NVIDIA H200")


def pairs(*groups):
    return all_pairs(groups, Size(), images="somewhere", cores=1, cache="cache")


@pytest.fixture
def found(monkeypatch):
    """Makes JAX and PyTorch find one device each; returns which were asked."""
    asked = []

    def answer(builder):
        asked.append(builder)
        return GPU if "torch" in builder else CPU

    monkeypatch.setattr(compared_devices, "_ask", answer)
    return asked


def test_the_same_kind_is_compared():
    for device in (CPU, GPU):
        check_devices({"JAX": device, "PyTorch": device})


@pytest.mark.parametrize(
    ("jax", "torch", "mend"),
    [(CPU, GPU, r"\.\[bench,cuda12\]"), (GPU, CPU, "JAX_PLATFORMS=cpu")],
)
def test_a_cpu_beside_a_gpu_is_refused_with_both_names(jax, torch, mend):
    with pytest.raises(ValueError, match=rf"JAX computes on {jax.name} .*{torch.name}.*{mend}"):
        check_devices({"JAX": jax, "PyTorch": torch})


def test_pairs_of_both_libraries_are_checked(found):
    for group in ("training", "parts", "inference", "filter", "ncut", "first_step"):
        with pytest.raises(ValueError, match="NVIDIA H200"):
            find_devices(pairs(group))


def test_pairs_of_one_library_need_not_the_other(found):
    assert find_devices(pairs("kernels")) == {"JAX": CPU}
    assert find_devices(pairs("input")) == {}
    assert found == ["benchmarking.jax_workloads:device"]
