"""Data sets, and entry points that cost no time."""

import pytest

from sempart_jax import recorded_commands
from tests.reproduction.fake_processes import FakeProcesses
from tests.reproduction.layouts import lay_out


@pytest.fixture
def processes(monkeypatch):
    fake = FakeProcesses()
    monkeypatch.setattr(recorded_commands, "run_command", fake.run)
    return fake


@pytest.fixture
def data_root(tmp_path):
    return lay_out(tmp_path / "data")
