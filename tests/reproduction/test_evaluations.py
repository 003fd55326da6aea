"""Evaluations that are run once each."""

import json

import pytest

from sempart_jax.reproduction.evaluations import EVALUATED, REPORT, Evaluations
from sempart_jax.reproduction.module_commands import ModuleCommands
from tests.reproduction.fake_processes import after

OPTIONS = {"protocols": "crop320", "postprocessings": "none,guided"}


@pytest.fixture
def scored(tmp_path, processes):
    """Score a run on data sets, of which a dictionary says how many images are there."""

    def score(there, wanted, *, options=OPTIONS, of="", dry_run=False, data_root="data"):
        commands = ModuleCommands(dry_run=dry_run)
        evaluations = Evaluations(commands, data_root=tmp_path / data_root, out=tmp_path / "out")
        evaluations.score("tricks", ["--workdir", "w"], wanted, there.get, options, of=of)
        return evaluations.results, processes.take(), commands.left_out

    return score


def test_the_command(scored, tmp_path):
    results, (command,), left_out = scored({"ecssd": 2, "voc07": 3}, ["ecssd", "voc07", "voc12"])
    report = tmp_path / "out" / "tricks" / REPORT
    assert command == [
        *("evaluate", "--workdir", "w", "--data_root", str(tmp_path / "data")),
        *("--datasets", "ecssd,voc07", "--protocols", "crop320"),
        *("--postprocessings", "none,guided", "--report", str(report)),
    ]
    assert [row["dataset"] for row in results["tricks"]["saliency"]] == ["ecssd", "voc07"]
    assert left_out == []


def test_what_holds_is_not_scored_again_and_what_has_changed_is(scored):
    there = {"ecssd": 2, "duts_te": 4}
    first, commands, _ = scored(there, ["duts_te", "ecssd"])
    assert len(commands) == 1
    again, commands, _ = scored(there, ["duts_te", "ecssd"])
    assert commands == []
    assert again == first
    _, commands, _ = scored(there | {"ecssd": 3}, ["duts_te", "ecssd"])
    assert len(commands) == 1
    for change in ({"of": "another training"}, {"data_root": "elsewhere"}):
        assert len(scored(there, ["ecssd"], **change)[1]) == 1
    assert len(scored(there, ["ecssd"], options=OPTIONS | {"foreground_rule": "none"})[1]) == 1


def test_results_are_of_the_wanted_data_sets_alone_but_the_report_keeps_the_others(
    scored, tmp_path
):
    there = {"ecssd": 2, "duts_te": 4}
    scored(there, ["ecssd"])
    results, (command,), _ = scored(there, ["duts_te"])
    assert after(command, "--datasets") == "duts_te,ecssd"
    assert {row["dataset"] for row in results["tricks"]["saliency"]} == {"duts_te"}
    # Data that have gone since need not come back.
    results, commands, left_out = scored({}, ["ecssd"])
    assert commands == left_out == []
    assert {row["dataset"] for row in results["tricks"]["saliency"]} == {"ecssd"}


def test_without_data_it_is_left_out(scored):
    results, commands, left_out = scored({}, ["ecssd", "voc07"])
    assert results == {}
    assert commands == []
    assert left_out == ["tricks: none of ecssd, voc07 is there"]


def test_a_failed_one_has_no_results_and_is_run_again(scored, processes, tmp_path):
    processes.failing = {"evaluate"}
    results, commands, _ = scored({"ecssd": 2}, ["ecssd"])
    assert results == {}
    assert len(commands) == 1
    record = json.loads((tmp_path / "out" / "tricks" / EVALUATED).read_text())
    assert record["finished"] is False
    processes.failing = set()
    results, commands, _ = scored({"ecssd": 2}, ["ecssd"])
    assert list(results) == ["tricks"]
    assert len(commands) == 1


def test_a_dry_run_has_no_results(scored, tmp_path):
    results, commands, _ = scored({"ecssd": 2}, ["ecssd"], dry_run=True)
    assert results == {}
    assert commands == []
    assert not (tmp_path / "out").exists()
