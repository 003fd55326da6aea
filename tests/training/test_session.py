"""Where a run can be."""

import os
from pathlib import Path

import pytest

from sempart_jax.training.session import check_workdir


def test_folders_and_what_is_not_there_yet_are_taken(tmp_path):
    check_workdir(tmp_path)
    check_workdir(tmp_path / "new" / "käse 日本")


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_is_no_place_for_a_run(tmp_path, below):
    file = tmp_path / "afile"
    file.write_text("text")
    with pytest.raises(ValueError, match=f"{file} is a file. Name a folder"):
        check_workdir(file / below)


def test_a_name_that_orbax_cannot_write_is_refused(tmp_path, monkeypatch):
    name = os.fsdecode(b"caf\xe9")
    refused = r"--workdir='.*caf\\udce9.*': its whole name must be UTF-8"
    with pytest.raises(ValueError, match=refused):
        check_workdir(tmp_path / name / "run")
    # Also where it is only the folder that this process is in.
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(ValueError, match="its whole name must be UTF-8"):
        check_workdir(Path("run"))
