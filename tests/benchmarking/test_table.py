"""The table that people read and the record that programs read."""

import json

from scripts.benchmarking.child import Prepared, Sample
from scripts.benchmarking.paired import Comparison, Failure, Pair, Side
from scripts.benchmarking.table import reason, record, table


def comparison(**options):
    pair = Pair(
        "g",
        "work",
        Side("ours", "m:f", {"side": 8}, {"A": "b"}),
        Side("other", "m:g"),
        items=2,
        **options,
    )
    ours = [Sample(wall, wall, 0.25) for wall in (0.002, 0.004, 0.006)]
    theirs = [Sample(2 * wall, wall, 0.0) for wall in (2.0, 4.0, 6.0)]
    prepared = (Prepared(1.0, 0.5, 0.1, 3.0, "cpu"), Prepared(2.0, 12.0, 0.1, 3.0, "cpu"))
    return Comparison(pair, ours, theirs, prepared, "a remark")


def test_rows_show_medians_and_quartiles_of_one_item():
    header, _, row, blank, remark = table([comparison()]).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")][:4] == [
        "what",
        "ours",
        "other",
        "ours / other",
    ]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "work",
        "ours: 2.00 [1.50, 2.50] ms / image",
        "other: 4.00 [3.00, 5.00] s / image",
        "0.0005 [0.0005, 0.0005]",
        "0.001 [0.001, 0.001]",
        "500 ms, 12.0 s",
        "3",
    ]
    assert len(header) == len(row)
    assert (blank, remark) == ("", "work: a remark")


def test_a_record_holds_all_raw_numbers():
    kept = json.loads(json.dumps(record(comparison())))
    assert kept["name"] == "work"
    assert kept["sides"]["ours"]["options"] == {"side": 8}
    assert kept["sides"]["ours"]["environment"] == {"A": "b"}
    assert [s["wall"] for s in kept["sides"]["theirs"]["samples"]] == [4.0, 8.0, 12.0]
    assert [s["idle_cpu"] for s in kept["sides"]["ours"]["samples"]] == [0.25] * 3
    assert kept["sides"]["theirs"]["prepared"]["first"] == 12.0
    assert kept["ratio"]["median"] == 0.0005
    assert kept["remark"] == "a remark"


def test_without_preparation_the_first_call_is_in_the_time():
    whole = comparison(fresh=True, per="start")
    whole = Comparison(whole.pair, whole.ours, whole.theirs, None, None)
    row = table([whole]).splitlines()[-1]
    assert "/ start" in row
    assert "in it" in row
    assert record(whole)["sides"]["ours"]["prepared"] is None


def test_a_failure_is_a_row_and_a_record():
    measured = comparison()
    failure = Failure(measured.pair, "a process failed to sample:\nTraceback ...\nRuntimeError: no")
    lines = table([failure, measured]).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")][:2] == [
        "work",
        "failed: RuntimeError: no",
    ]
    assert len({len(line) for line in lines[:4]}) == 1
    assert record(failure)["error"] == failure.error
    assert record(failure)["group"] == "g"


def test_reasons_are_short():
    for error in (
        "jaxlib: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.\nBuffers: ...",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 8 GiB.\n",
    ):
        assert reason(error) == "out of memory"
    assert reason("first\nlast\n") == "last"
    assert len(reason("long " * 100)) == 100
