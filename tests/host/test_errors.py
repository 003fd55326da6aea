"""What is said of folders that cannot be made."""

import re

import pytest

from sempart_jax.host.atomic_write import write_atomically
from sempart_jax.host.errors import WriteError
from sempart_jax.host.folder_lock import locked


def hold(folder):
    with locked(folder, "--out"):
        pass


@pytest.mark.parametrize("below", ["", "run"])
@pytest.mark.parametrize("make", [hold, lambda folder: write_atomically(folder / "a.txt", "a")])
@pytest.mark.parametrize("target", [None, "nowhere"])
def test_what_stands_where_a_folder_is_wanted_is_named(tmp_path, make, target, below):
    blocked = tmp_path / "blocked"
    if target is None:
        blocked.touch()
        told = f"{blocked} is a file"
    else:
        blocked.symlink_to(target)
        told = f"{blocked} is a link to {target}, which does not exist"
    with pytest.raises(WriteError, match=f"cannot write {re.escape(str(blocked))}.*: {told}"):
        make(blocked / below)


def test_a_link_to_a_folder_is_written_to(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    hold(tmp_path / "link")
    write_atomically(tmp_path / "link/a.txt", "a")
    assert (tmp_path / "run/a.txt").read_text() == "a"
