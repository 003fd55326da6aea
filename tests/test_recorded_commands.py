"""Commands that are run once."""

import json
import shlex
import sys

import pytest

from sempart_jax.recorded_commands import (
    RecordedCommands,
    read_record,
    reason_to_run,
    write_json,
)

RECORD = {
    "command": ["train", "--fast"],
    "settings": {"arguments": "--steps=10", "version": "1"},
    "contents": {"ecssd": 1000, "voc07": 5011},
    "finished": True,
}
SETTINGS = RECORD["settings"]


def test_only_a_finished_command_with_the_same_settings_and_contents_holds():
    assert reason_to_run(RECORD, SETTINGS) is None
    assert reason_to_run(RECORD, SETTINGS, {"ecssd": 1000}) is None
    assert reason_to_run(None, SETTINGS) == "not run yet"
    assert reason_to_run({**RECORD, "finished": False}, SETTINGS) == "not finished the last time"


def test_reasons_name_what_has_changed():
    reason = reason_to_run(RECORD, {**SETTINGS, "arguments": "--steps=20"})
    assert "arguments was '--steps=10' and is '--steps=20'" in reason
    assert "version" not in reason
    assert "'new'" in reason_to_run(RECORD, {**SETTINGS, "protocol": "new"})
    # A change is told of even where the last time was not finished.
    assert "and is" in reason_to_run({**RECORD, "finished": False}, {"version": "2"})
    reason = reason_to_run(RECORD, SETTINGS, {"ecssd": 300, "voc07": 5011, "duts_te": 5019})
    assert reason == "new or changed: ecssd, duts_te"


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def counted(tmp_path):
    """A command that leaves a line in a file each time, and how many there are."""
    log = tmp_path / "log"

    def count():
        return len(log.read_text().splitlines()) if log.exists() else 0

    return python(f"print('line', file=open({str(log)!r}, 'a'))"), count


def run(commands, path, command, settings=SETTINGS, contents=None):
    return commands.run(path, read_record(path), command, settings, contents)


def test_a_finished_command_is_not_run_again(tmp_path, counted, capfd):
    command, count = counted
    commands, path = RecordedCommands(), tmp_path / "run" / "record.json"
    assert run(commands, path, command, contents={"ecssd": 5})
    assert json.loads(path.read_text()) == {
        "command": command,
        "settings": SETTINGS,
        "contents": {"ecssd": 5},
        "finished": True,
    }
    assert run(commands, path, command, contents={"ecssd": 5})
    assert count() == 1
    printed = capfd.readouterr().out.splitlines()
    assert printed == [
        "# not run yet",
        shlex.join(command),
        f"# finished before: {shlex.join(command)}",
    ]
    assert run(commands, path, command, contents={"ecssd": 6})
    assert run(commands, path, command, {"arguments": "--steps=20"})
    assert count() == 3
    assert not commands.failures


def test_a_failed_command_is_run_again(tmp_path, counted, capfd):
    commands, path = RecordedCommands(), tmp_path / "record.json"
    assert not run(commands, path, python("raise SystemExit(3)"))
    assert len(commands.failures) == 1
    assert commands.failures[0].startswith("status 3 of ")
    assert json.loads(path.read_text())["finished"] is False
    command, count = counted
    assert run(commands, path, command)
    assert count() == 1
    assert "# failed with status 3\n# not finished the last time" in capfd.readouterr().out


def test_a_command_that_was_ended_before_it_was_complete_is_run_again(tmp_path, counted, capfd):
    command, count = counted
    commands, path = RecordedCommands(), tmp_path / "record.json"
    for _ in range(2):
        record = read_record(path)
        assert not commands.run(path, record, command, SETTINGS, is_complete=lambda: False)
    assert count() == 2
    assert commands.failures[0] == f"not complete, as it was told to end: {shlex.join(command)}"
    assert "# ended before it was complete\n# not finished the last" in capfd.readouterr().out
    assert commands.run(path, read_record(path), command, SETTINGS, is_complete=lambda: True)


def test_a_failure_takes_the_mark_off_what_was_finished(tmp_path):
    commands, path = RecordedCommands(), tmp_path / "record.json"
    assert run(commands, path, python(""))
    assert not run(commands, path, python("raise SystemExit(1)"), {"arguments": "other"})
    assert read_record(path)["finished"] is False


def test_a_dry_run_runs_and_writes_nothing(tmp_path, counted, capfd):
    command, count = counted
    path = tmp_path / "record.json"
    assert run(RecordedCommands(dry_run=True), path, command)
    assert count() == 0
    assert not path.exists()
    assert shlex.join(command) in capfd.readouterr().out


def test_reading_a_record(tmp_path):
    path, result = tmp_path / "record.json", tmp_path / "results.json"
    assert read_record(path) is None
    write_json(path, RECORD)
    assert read_record(path) == RECORD
    assert read_record(path, result) is None
    result.touch()
    assert read_record(path, result) == RECORD


@pytest.mark.parametrize("content", ['{"finished": tr', "[]", '{"finished": true}', "null"])
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"record\.json is damaged .* remove it"):
        read_record(path)
