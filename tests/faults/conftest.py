"""Images, and a training of them that nothing disturbs."""

import pytest

from sempart_jax.data.synthetic import write_scenes
from tests.faults.small_training import finish


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 10, size=40, seed=3)
    return folder


@pytest.fixture(scope="session")
def straight(tmp_path_factory, scenes):
    workdir = tmp_path_factory.mktemp("straight") / "run"
    finish(workdir, scenes)
    return workdir
