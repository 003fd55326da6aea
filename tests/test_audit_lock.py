"""The audit of the lock: what it makes of pip-audit's answers, and the lock itself."""

import re
import subprocess
import tomllib

import pytest

from scripts import audit_lock
from tests.commands import REPOSITORY

CLEAN = {"name": "a", "version": "1", "vulns": []}
VULNERABLE = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status"),
    [([CLEAN], 0), ([CLEAN, VULNERABLE, UNKNOWN], 1), ([CLEAN, UNKNOWN], 2)],
)
def test_status_tells_the_vulnerable_from_what_is_not_known(capsys, packages, status):
    assert audit_lock.report(packages) == status
    output = capsys.readouterr()
    assert ("b 2: PYSEC-1, mended in 2.1" in output.out) == (VULNERABLE in packages)
    assert ("not looked up: c" in output.err) == (UNKNOWN in packages)


@pytest.mark.parametrize("said", ["", "ConnectionError: no route"])
def test_an_audit_that_did_not_happen_is_no_success(monkeypatch, capsys, said):
    silent = subprocess.CompletedProcess([], 1, stdout="", stderr=said)
    monkeypatch.setattr(audit_lock.subprocess, "run", lambda *_, **__: silent)
    assert audit_lock.main([]) == 2
    assert "nothing was looked up" in capsys.readouterr().err


def test_pip_audit_is_asked_for_each_lock(monkeypatch, tmp_path, capsys):
    (tmp_path / "pip_audit.py").write_text(
        "import json, sys\n"
        "lock = sys.argv[sys.argv.index('--requirement') + 1]\n"
        "both = [{'name': name, 'version': '1', 'vulns': []} for name in (lock, 'in all')]\n"
        "print(json.dumps({'dependencies': both}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = {lock.name for lock in audit_lock.LOCKS}
    assert names == {
        "requirements.lock",
        "requirements-app.lock",
        "requirements-metrics.lock",
        "requirements-onnx.lock",
        "requirements-ports.lock",
    }
    assert audit_lock.main([]) == 0
    assert "6 of 6 packages looked up, 0 vulnerable" in capsys.readouterr().out


@pytest.mark.parametrize("lock", audit_lock.LOCKS, ids=lambda lock: lock.name)
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
        ("requirements-onnx.lock", ("test", "onnx")),
        ("requirements-ports.lock", ("test", "ports")),
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
