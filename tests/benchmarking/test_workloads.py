"""What is measured, and that the workloads which need nobody else's library do their work."""

import sys

import numpy as np
import pytest
from PIL import Image

from scripts.benchmarking import jax_kernels, jax_workloads
from scripts.benchmarking.checks import DisagreementError, interiors_agree, tell_errors
from scripts.benchmarking.inputs import BATCH, BATCHES
from scripts.benchmarking.machine import describe_machine, require_packages
from scripts.benchmarking.paired import Side, started
from scripts.benchmarking.workloads import (
    GROUPS,
    Size,
    all_pairs,
    device_pairs,
    needed_packages,
)
from tests.commands import REPOSITORY

pytestmark = pytest.mark.compile_bound

OPENCV = "opencv-contrib-python-headless"


def planned(*groups, **options):
    settings = {"images": "somewhere", "cores": 2, "cache": "cache", **options}
    return all_pairs(groups, Size("vit_tiny8", 64, 4), **settings)


def test_every_group_has_comparisons_whose_functions_exist():
    for group in GROUPS:
        pairs = planned(group)
        assert pairs
        for pair in pairs:
            assert pair.group == group
            for side in (pair.ours, pair.theirs):
                module, function = side.builder.split(":")
                path = REPOSITORY / "scripts" / f"{module.replace('.', '/')}.py"
                assert f"def {function}(" in path.read_text()
    names = [(pair.name, pair.theirs.label) for pair in planned(*GROUPS)]
    assert len(set(names)) == len(names)


def test_networks_have_the_size_that_is_asked_for():
    for pair in planned("training", "inference", "first_step"):
        for side in (pair.ours, pair.theirs):
            assert side.options["backbone"] == "vit_tiny8"
            assert (side.options["batch"], side.options["side"]) == (4, 64)
    assert {pair.items for pair in planned("training", "inference")} == {4}
    assert {pair.items for pair in planned("first_step")} == {1}
    swept = device_pairs(Size("vit_tiny8", 64, 4), [2, 8])
    kinds = {(pair.ours.options["batch"], pair.theirs.options["dtype"]) for pair in swept}
    assert kinds == {(b, d) for b in (2, 8) for d in ("float32", "bfloat16")}
    assert all(pair.items == pair.ours.options["batch"] for pair in swept)


def test_first_steps_differ_in_the_compilation_cache():
    cold, warm = planned("first_step")
    assert cold.fresh
    assert warm.fresh
    assert cold.ours.environment["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert warm.ours.environment["JAX_COMPILATION_CACHE_DIR"] == "cache"


def test_input_uses_one_core_and_all():
    settings = [
        (pair.ours.options["workers"], pair.theirs.options["workers"], pair.ours.options["cores"])
        for pair in planned("input", cores=4)
    ]
    assert settings == [(0, 0, 1), (1, 1, 1), (0, 4, 4), (4, 4, 4)]
    assert len(planned("input", cores=1)) == 2
    with pytest.raises(ValueError, match="give --images"):
        planned("input", images=None)


def test_what_a_group_needs_is_told_when_it_is_missing():
    assert needed_packages(planned("kernels")) == set()
    assert needed_packages(planned("ncut", "kernels")) == {"torch"}
    assert needed_packages(planned("filter")) == {"torch", OPENCV}
    require_packages(["numpy"])
    with pytest.raises(ModuleNotFoundError, match=r"no-such-package.*\.\[bench\]"):
        require_packages(["numpy", "no-such-package"])


def test_the_machine_is_described():
    machine = describe_machine()
    assert machine["usable_cores"] >= 1
    assert machine["versions"]["jax"]
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert machine["memory_gigabytes"] is None or machine["memory_gigabytes"] > 0.1


@pytest.mark.parametrize(("height", "width", "radius"), [(40, 33, 4), (8, 50, 9)])
def test_box_filters_tell_their_error(height, width, radius):
    options = {"height": height, "width": width, "radius": radius}
    for ours in (True, False):
        error = jax_kernels.box(**options, ours=ours).result()
        assert 0 <= error < 1e-3
    x = np.random.default_rng(0).uniform(size=(height, width, 1))
    padded = np.pad(x, ((radius, radius), (radius, radius), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2, (0, 1))
    sums = jax_kernels.cumulative_box_filter(x, radius, np)
    np.testing.assert_allclose(sums, windows.sum(axis=(-2, -1)), rtol=1e-12)


def test_weight_gradients_agree():
    options = {"batch": 2, "side": 6, "inputs": 3, "outputs": 4}
    ours, theirs = (
        jax_kernels.weight_gradient(**options, ours=kind).result() for kind in (True, False)
    )
    assert ours.shape == (3, 3, 3, 4)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    jax_kernels.convolution(**options).run()


def test_guided_filters_agree():
    options = {"height": 41, "width": 30, "radius": 3}
    host, jitted = (
        build(**options).result()
        for build in (jax_workloads.guided_on_host, jax_workloads.guided_jitted)
    )
    np.testing.assert_allclose(host, jitted, atol=1e-5)


def test_interiors_are_compared_without_their_border():
    ours = np.zeros((40, 50), np.float32)
    theirs = ours.copy()
    theirs[:18] = theirs[:, -18:] = 1
    assert "18 pixels from the border" in interiors_agree(ours, theirs)
    theirs[18, 18] = 1
    with pytest.raises(DisagreementError):
        interiors_agree(ours, theirs)
    assert tell_errors(1.2e-5, 0.003) == "errors against float64: 1e-05 and 3e-03"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("function", ["pipeline", "loader"])
def test_input_workloads_take_batches_on_one_core(tmp_path, function, workers):
    if function == "loader":
        pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for index in range(2 * BATCH + 3):
        pixels = rng.integers(0, 256, (60 + index, 400 - index, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.jpg")
    builder = f"benchmarking.input_workloads:{function}"
    side = Side("s", builder, {"images": str(tmp_path), "workers": workers, "cores": 1})
    with started(side) as child:
        prepared = child.prepare(side)
        sample = child.sample(1)
    assert prepared.second > 0
    # One core gives a second a second, or less where others want it; what the workers use counts.
    assert BATCH * BATCHES / 5000 < sample.cpu < 1.5 * sample.wall + 0.5


@pytest.mark.slow
def test_networks_train_and_predict():
    pytest.importorskip("torch")
    from scripts.benchmarking import torch_workloads

    size = {"backbone": "vit_tiny8", "batch": 1, "side": 32}
    for workloads, styles in ((jax_workloads, [{}]), (torch_workloads, [{}, {"plain": True}])):
        for style in styles:
            workloads.training(**size, **style, tricks=True).run()
            mask = workloads.inference(**size, **style, refined=True).run()
            assert mask.size == 32 * 32
            assert 0 <= mask.min() <= mask.max() <= 1


def test_all_of_jax_leaves_memory_to_the_other_side():
    for pair in planned(*GROUPS):
        for side in (pair.ours, pair.theirs):
            if side.builder.startswith("benchmarking.jax"):
                assert float(side.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"]) < 0.5
