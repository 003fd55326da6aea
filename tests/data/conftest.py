"""A prepared data set for the tests of all that reads one."""

from pathlib import Path

import pytest

from sempart_jax.data.builders import prepare
from tests.data.labelled_files import STEMS, write_unpacked


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A data root where ECSSD is prepared and nothing else is."""
    write_unpacked("ecssd", tmp_path / "files", STEMS)
    prepare("ecssd", tmp_path / "root", manual_dir=tmp_path / "files", download=False)
    return tmp_path / "root"
