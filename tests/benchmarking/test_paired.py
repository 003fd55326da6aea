"""Two processes in turns: order, isolation, failures, and what is made of the samples."""

import time

import numpy as np
import pytest

from scripts.benchmarking.checks import DisagreementError, agree
from scripts.benchmarking.child import Sample
from scripts.benchmarking.paired import Comparison, Pair, Side, measure, quartiles, started
from tests.commands import REPOSITORY

TOYS = "tests.benchmarking.toy_workloads"


@pytest.fixture(autouse=True)
def importable_toys(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


def toy(name, **options):
    return Side(name, f"{TOYS}:{name}", options)


def noting(tmp_path, **options):
    log = str(tmp_path / "log")
    return [Side(n, f"{TOYS}:note", {"log": log, "name": n, **options}) for n in ("a", "b")]


def lines(tmp_path):
    return [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def test_sides_run_in_turns_each_in_one_process(tmp_path):
    comparison = measure(Pair("g", "n", *noting(tmp_path)), 3)
    names, processes = zip(*lines(tmp_path), strict=True)
    # Each side is prepared by two calls, then they alternate.
    assert "".join(names) == "aabb" + 3 * "ab"
    assert len(set(zip(names, processes, strict=True))) == len(set(processes)) == 2
    assert len(comparison.ours) == len(comparison.theirs) == 3
    assert [prepared.device for prepared in comparison.prepared] == ["toy", "toy"]
    assert comparison.remark is None


def test_fresh_sides_start_a_process_for_each_sample(tmp_path):
    comparison = measure(Pair("g", "n", *noting(tmp_path), fresh=True), 2)
    names, processes = zip(*lines(tmp_path), strict=True)
    # The first start of each is thrown away, and the second call is no part of a sample.
    assert "".join(names) == 3 * "aabb"
    assert len(set(processes)) == 6
    assert len(comparison.ours) == len(comparison.theirs) == 2
    assert comparison.prepared is None
    # At least one call, and the start of a process.
    assert all(sample.wall > 0.1 for sample in comparison.ours)


def test_short_calls_are_repeated_to_fill_a_sample(tmp_path):
    side = toy("burn", seconds=0.01)
    comparison = measure(Pair("g", "n", side, side), 2)
    for sample in comparison.ours + comparison.theirs:
        # Of one call, however many there were.
        assert sample.wall >= 0.0099
        assert 0.0099 < sample.cpu < 0.013


def test_an_idle_side_is_noticed_if_it_works_on():
    with started(toy("spin")) as spinning, started(toy("burn", seconds=0.01)) as quiet:
        for child, side in ((spinning, toy("spin")), (quiet, toy("burn", seconds=0.01))):
            child.prepare(side)
            child.sample(1)
        time.sleep(1)
        assert spinning.sample(1).idle_cpu > 0.1
        assert quiet.sample(1).idle_cpu < 0.1


def test_results_are_compared(tmp_path):
    ours, theirs = noting(tmp_path, result=1.0)
    pair = Pair("g", "n", ours, theirs, check=agree)
    assert measure(pair, 1).remark == "results differ by 0e+00 at most"
    other = Side("b", theirs.builder, {**theirs.options, "result": 1.001})
    with pytest.raises(DisagreementError, match=r"differ by 1\.0e-03, more than 1e-04"):
        measure(Pair("g", "n", ours, other, check=agree), 1)
    nan = Side("b", theirs.builder, {**theirs.options, "result": float("nan")})
    with pytest.raises(DisagreementError):
        measure(Pair("g", "n", ours, nan, check=agree), 1)


def test_a_failure_comes_with_the_traceback_of_its_process():
    with pytest.raises(RuntimeError, match=r"(?s)failed to prepare.*toy_workloads.*no toy today"):
        measure(Pair("g", "n", toy("fail"), toy("fail")), 1)


def test_a_process_that_ends_is_named_by_its_status():
    with pytest.raises(RuntimeError, match="ended with status 3 while asked to prepare"):
        measure(Pair("g", "n", toy("die"), toy("die")), 1)


def test_what_a_library_prints_does_not_mix_with_the_table(capfd):
    measure(Pair("g", "n", toy("talk"), toy("talk")), 1)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "chatter" in captured.err


def test_a_side_has_its_own_environment(monkeypatch):
    monkeypatch.setenv("TOY", "parent")
    side = Side("s", f"{TOYS}:environment", {"name": "TOY"}, {"TOY": "child"})
    with started(side) as child:
        assert child.call(side) == "child"


def samples(*walls):
    return [Sample(wall, 2 * wall, 0.0) for wall in walls]


def test_ratios_are_of_neighbours():
    # The machine slows down by four; the ratio is the same all along, the medians' is not.
    ours, theirs = samples(1.0, 2.0, 4.0, 4.0), samples(2.0, 4.0, 8.0, 8.0)
    comparison = Comparison(
        Pair("g", "n", toy("burn"), toy("burn"), items=2), ours, theirs, None, None
    )
    assert comparison.ratio() == (0.5, 0.5, 0.5)
    assert comparison.cpu_ratio() == (0.5, 0.5, 0.5)
    assert comparison.seconds("ours").median == 1.5
    assert comparison.seconds("theirs").median == 3.0
    turned = Comparison(comparison.pair, ours, theirs[::-1], None, None)
    assert turned.ratio() == quartiles([1 / 8, 2 / 8, 1.0, 2.0])


def test_quartiles():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert quartiles(values) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    np.testing.assert_allclose(quartiles([1.0, 2.0]), (1.25, 1.5, 1.75))
