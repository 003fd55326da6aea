"""The locks: every dependency, each by version and hash."""

import re
import tomllib

import pytest

from tests.commands import REPOSITORY

LOCKS = sorted(REPOSITORY.glob("requirements*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_package_is_pinned_by_version_and_hash(lock):
    entries = re.split(r"\n(?=\w)", lock.read_text())
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.-]+(\[\w+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ("test", "dev")),
        ("requirements-app.lock", ("test", "app", "browser")),
        ("requirements-metrics.lock", ("test", "metrics")),
        ("requirements-ports.lock", ("test", "ports")),
        ("requirements-runtimes.lock", ("test", "onnx", "ray")),
    ],
)
def test_a_lock_names_every_dependency(lock, extras):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    locked = (REPOSITORY / lock).read_text().lower().replace("_", "-")
    for requirement in wanted:
        name = re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")
        assert re.search(rf"^{name}==", locked, re.MULTILINE), name
