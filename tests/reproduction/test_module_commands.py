"""Entry points as commands."""

import sys

from sempart_jax.recorded_commands import read_record
from sempart_jax.reproduction.module_commands import ModuleCommands


def test_a_module_of_this_package_is_run_by_this_python(tmp_path, processes):
    commands, path = ModuleCommands(), tmp_path / "train" / "record.json"
    path.parent.mkdir()
    arguments = ["--config", "x.py", "--workdir", str(path.parent)]
    assert commands.run_module("train", arguments, path, None, {"a": "1"}, {"images": 3})
    assert processes.take() == [["train", *arguments]]
    record = read_record(path)
    assert record["command"] == [sys.executable, "-m", "sempart_jax.train", *arguments]
    assert (record["settings"], record["contents"]) == ({"a": "1"}, {"images": 3})
    assert commands.run_module("train", arguments, path, record, {"a": "1"}, {"images": 3})
    assert processes.take() == []


def test_a_dry_run_says_so_and_starts_nothing(tmp_path, processes, capsys):
    commands = ModuleCommands(dry_run=True)
    assert commands.dry_run
    assert commands.run_module("train", ["--x"], tmp_path / "record.json", None, {})
    assert processes.take() == []
    assert "-m sempart_jax.train --x" in capsys.readouterr().out


def test_what_is_left_out_is_told_and_kept(capsys):
    commands = ModuleCommands()
    commands.leave_out("move: no masks")
    assert commands.left_out == ["move: no masks"]
    assert capsys.readouterr().out == "# not run: move: no masks\n"
