"""The sections of the benchmark of an accelerator, with one that answers as it should and worse."""

import json

import pytest

from scripts.benchmarking import accelerator_run
from scripts.benchmarking.accelerator_run import AcceleratorRun, Plan
from scripts.benchmarking.product_count import Passes
from tests.benchmarking import toy_accelerator
from tests.commands import REPOSITORY

SMALL = {"backbone": "vit_tiny8", "side": 32, "samples": 1, "matrix_size": 2}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Makes the processes answer by the toys; returns a way to choose another one."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    def use(**names):
        for name, function in names.items():
            builder = f"{toy_accelerator.__name__}:{function}"
            monkeypatch.setitem(accelerator_run.BUILDERS, name, builder)

    monkeypatch.setattr(accelerator_run, "count_passes", lambda *_: Passes(10**9, 10**8))
    use(describe="describe", rate="rate", work="work", fits="fits", losses="losses")
    return use


def finished(tmp_path, **options):
    path = tmp_path / "report.json"
    run = AcceleratorRun(Plan(**{**SMALL, **options}), path)
    run.run()
    return run, json.loads(path.read_text())


def test_what_does_not_fit_ends_a_column_and_loses_nothing(tmp_path, capsys):
    run, report = finished(
        tmp_path,
        sections=["rates", "table"],
        works=["tricks", "refined"],
        batch_sizes=[400, 8, 200],
    )
    rows = [(row["work"], row["dtype"], row["batch"], row["fits"]) for row in report["rows"]]
    assert rows == [
        (work, dtype, batch, batch == 8)
        for work in ("tricks", "refined")
        for dtype in ("float32", "bfloat16", "bfloat16_head")
        for batch in (8, 200)
    ]
    row = report["rows"][0]
    assert (row["images_per_second"], row["host_images_per_second"]) == (1000, 500)
    assert row["flops_per_second"] == 1000 * report["flops"]["tricks"] == 2.4e12
    assert row["share"] == row["flops_per_second"] / 2e12
    # One product could not be measured, and that alone is a failure.
    assert set(report["rates"]) == {"bfloat16", "float32, highest precision"}
    assert len(run.failures) == 1
    assert "no float32 today" in report["failures"][0]
    printed = capsys.readouterr().out
    assert printed.count("does not fit") == 6
    assert "products in float32: failed: ValueError: no float32 today" in printed
    assert printed.index("fused") > printed.index("XLA's")


def test_failures_are_rows_and_the_rest_goes_on(tmp_path, capsys):
    run, report = finished(
        tmp_path,
        sections=["table"],
        works=["baseline", "fine", "refined"],
        dtypes=["bfloat16"],
        batch_sizes=[8, 32],
    )
    found = [(row["work"], row["batch"], "error" in row) for row in report["rows"]]
    assert found == [
        ("baseline", 8, False),
        ("baseline", 32, True),
        ("fine", 8, True),
        ("refined", 8, False),
        ("refined", 32, False),
    ]
    assert "ended with status 3" in run.failures[0]
    assert "no fine mask today" in run.failures[1]
    assert report["rows"][0]["share"] is None
    assert "failed: ValueError: no fine mask today" in capsys.readouterr().out


def test_the_largest_batch_is_searched_for(tmp_path, capsys):
    _, report = finished(
        tmp_path, sections=["largest"], works=["tricks", "fine"], dtypes=["bfloat16"]
    )
    (found,) = report["largest"]
    assert found["fits"] <= toy_accelerator.MEMORY < found["does_not_fit"] <= found["fits"] * 9 / 8
    assert f"tricks, bfloat16: {found['fits']} fits" in capsys.readouterr().out


def test_a_device_that_tells_no_memory_is_not_filled(tmp_path, toys, capsys):
    toys(describe="describe_silent")
    _, report = finished(tmp_path, sections=["largest"])
    assert report["largest"] == []
    assert "not searched for: the device does not tell" in capsys.readouterr().out


def test_aims_are_met_or_missed_or_not_measured(tmp_path, capsys):
    finished(tmp_path, sections=["losses"], steps=20)
    *_, said, _, _, share, rate, losses = capsys.readouterr().out.splitlines()
    assert said == (
        "20 steps in float32, loss 2.00000 to 2.00000; from the same states losses differ by "
        "0.50% at most, gradients by bfloat16 3.00%"
    )
    assert share.endswith("35% of the bf16 rate: not measured")
    assert rate.endswith("1,500 images/s: not measured")
    assert losses == "losses of bfloat16 and float32 from one state: at most 1% apart: 0.50%: met"


def test_losses_that_are_no_numbers_miss_the_aim(tmp_path, toys, capsys):
    toys(losses="losses_lost")
    _, report = finished(tmp_path, sections=["losses"])
    assert report["losses"]["difference"] is None
    assert report["losses"]["by_dtype"]["bfloat16"]["losses"] == [None] * 3
    assert capsys.readouterr().out.splitlines()[-1].endswith("apart: nan%: missed")


def test_aims_are_told_when_the_run_is_cut_off(tmp_path, monkeypatch, capsys):
    def interrupted(self, passes):
        raise KeyboardInterrupt

    monkeypatch.setattr(AcceleratorRun, "_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finished(tmp_path, sections=["table"])
    assert "at least 1,500 images/s: not measured" in capsys.readouterr().out
