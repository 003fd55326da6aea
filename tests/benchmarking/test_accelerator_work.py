"""What the processes of the benchmark of an accelerator measure, in this one and small."""

import jax
import numpy as np
import pytest

from scripts.benchmarking import accelerator_work
from scripts.benchmarking.accelerator_table import aims, row, work_record
from scripts.benchmarking.accelerator_work import fits, measure_work, unless_out_of_memory
from scripts.benchmarking.device import describe_device, memory_statistics
from scripts.benchmarking.loss_precision import compare_types, difference, load_images
from scripts.benchmarking.matrix_rates import PRECISIONS, measure_rate
from scripts.benchmarking.sempart_programs import draw_backbone
from scripts.benchmarking.timing import time_calls
from sempart_jax.data.synthetic import write_scenes
from sempart_jax.networks import names
from sempart_jax.two_tricks import vit

pytestmark = pytest.mark.compile_bound

SMALL = names.Architecture(patch_size=8, width=24, depth=2, num_heads=2)


@pytest.fixture
def small_backbone(monkeypatch):
    monkeypatch.setitem(names.BACKBONES, "vit_small", SMALL)
    # Compiled sooner.
    jax.config.update("jax_disable_most_optimizations", True)
    yield "vit_small"
    jax.config.update("jax_disable_most_optimizations", False)


def out_of_memory():
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_rates_are_those_of_a_machine(name):
    assert 1e6 < measure_rate(name=name, size=64, samples=1) < 1e13


def test_the_device_is_described():
    found = describe_device()
    assert (found["platform"], found["kind"]) == ("cpu", "cpu")
    assert {"jax", "jaxlib"} <= set(found["packages"])
    assert memory_statistics() == {}
    assert found["memory_bytes"] is None


def test_times_are_of_one_call():
    calls = []
    (seconds,) = time_calls(lambda: calls.append(None), 1)
    # Two to find out how many fill a sample.
    assert len(calls) > 1000
    assert 0 < seconds < 1e-3


def test_running_out_of_memory_is_an_answer_and_nothing_else_is(monkeypatch):
    assert unless_out_of_memory(lambda: 3) == 3
    assert unless_out_of_memory(out_of_memory) is None

    def fail():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        unless_out_of_memory(fail)
    options = {"work": "fine", "backbone": "b", "side": 32, "batch": 1, "dtype": "float32"}
    monkeypatch.setattr(accelerator_work, "_compile", lambda *_: out_of_memory())
    assert measure_work(**options, samples=1) == {"fits": False}
    assert fits(**options) is False


def test_random_backbones_have_the_parameters_of_the_module():
    module = vit.VisionTransformer(8, 24, 2, 2)
    image = np.zeros((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), image)["params"]
    drawn = draw_backbone(module)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), drawn) == jax.tree.map(
        lambda x: (x.shape, x.dtype), shapes
    )
    np.testing.assert_array_equal(drawn["norm"]["scale"], 1)
    np.testing.assert_array_equal(drawn["norm"]["bias"], 0)
    assert 0.015 < drawn["block_0"]["mlp_hidden"]["kernel"].std() < 0.025


@pytest.mark.slow
@pytest.mark.parametrize("work", ["baseline", "refined", "fine"])
def test_works_are_measured(small_backbone, work):
    found = measure_work(
        work=work, backbone=small_backbone, side=32, batch=2, dtype="bfloat16", samples=2
    )
    assert found["fits"] is True
    assert found["fused_attention"] is False
    assert found["peak_bytes"] is None
    assert found["compile_seconds"] > 0
    for name in ("seconds", "host_seconds"):
        assert len(found[name]) == 2
        assert all(1e-5 < seconds < 100 for seconds in found[name])
    record = work_record(found, work=work, dtype="bfloat16", batch=2, flops=10**9, rate=1e12)
    assert record["share"] == record["flops_per_second"] / 1e12
    assert "XLA's" in row(record)


def test_a_batch_fits_that_runs_twice(monkeypatch):
    calls = []

    def run():
        calls.append(None)
        if len(calls) == 4:
            out_of_memory()

    compiled = accelerator_work.Compiled(run, run, False, 0.0)
    monkeypatch.setattr(accelerator_work, "_compile", lambda *_: compiled)
    options = {"work": "fine", "backbone": "b", "side": 32, "batch": 1, "dtype": "float32"}
    assert fits(**options) is True
    assert fits(**options) is False
    assert len(calls) == 4


@pytest.mark.slow
def test_all_types_step_from_one_state(small_backbone):
    found = compare_types(backbone=small_backbone, weights="", images="", side=32, batch=2, steps=3)
    assert list(found) == ["float32", "bfloat16", "bfloat16_head"]
    losses = {tuple(of_type["losses"]) for of_type in found.values()}
    # The same images and states, and another type.
    assert len(losses) == 3
    assert difference(found) < 0.002
    assert len(set(found["float32"]["losses"])) == 3
    assert found["float32"]["gradients"] == [0, 0, 0]
    for dtype in ("bfloat16", "bfloat16_head"):
        assert min(found[dtype]["gradients"]) > 0
        assert max(found[dtype]["gradients"]) < 0.3


def test_losses_are_compared_step_by_step():
    def of_type(*losses):
        return {"losses": list(losses), "gradients": [0.1] * len(losses)}

    found = {"float32": of_type(8.0, 2.0), "bfloat16": of_type(6.0, 2.1)}
    assert difference(found) == pytest.approx(0.25)
    assert difference({**found, "bfloat16_head": of_type(8.0, 3.0)}) == pytest.approx(0.5)
    assert np.isnan(difference({**found, "bfloat16": of_type(float("nan"), 2.0)}))


def test_images_are_scenes_or_squares_of_photographs(tmp_path):
    write_scenes(tmp_path, 3, size=80)
    for folder, count in (("", 5), (str(tmp_path / "images"), 3)):
        images = load_images(folder, 32, 5)
        assert images.shape == (count, 32, 32, 3)
        assert images.dtype == np.uint8
        assert images.std() > 10
    with pytest.raises(FileNotFoundError):
        load_images(str(tmp_path / "absent"), 32, 5)


def test_aims_are_of_the_best_rows():
    common = {"fits": True, "host_images_per_second": 900.0}
    rows = [
        {**common, "work": w, "dtype": d, "batch": b, "share": s, "images_per_second": i}
        for w, d, b, s, i in [
            ("tricks", "float32", 8, 0.9, 1.0),
            ("tricks", "bfloat16", 8, 0.2, 1.0),
            ("tricks", "bfloat16", 32, 0.36, 1.0),
            ("refined", "float32", 8, 0.1, 1400.0),
            ("fine", "float32", 8, 0.1, 9999.0),
        ]
    ]
    share, rate, losses = aims([*rows, {"work": "refined", "fits": False}], 0.02)
    assert share.endswith(": 36.0%, bfloat16, batch 32: met")
    assert rate.endswith(": 1,400 (from the host and back 900), float32, batch 8: missed")
    assert losses.endswith(": 2.00%: missed")
