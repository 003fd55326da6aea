"""The audit of the lock: what it makes of pip-audit's answers, and the lock itself."""

import re
import subprocess

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


def test_pip_audit_is_asked_for_the_lock(monkeypatch, tmp_path):
    (tmp_path / "pip_audit.py").write_text(
        "import json, sys\n"
        "lock = sys.argv[sys.argv.index('--requirement') + 1]\n"
        "print(json.dumps({'dependencies': [{'name': lock, 'vulns': []}]}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit_lock.ask(audit_lock.LOCK) == [{"name": str(audit_lock.LOCK), "vulns": []}]


def test_every_locked_package_is_pinned_by_version_and_hash():
    entries = re.split(r"\n(?=\w)", audit_lock.LOCK.read_text())
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.-]+(\[\w+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_lock_names_every_dependency():
    text = (REPOSITORY / "pyproject.toml").read_text()
    block = re.search(r"\ndependencies = \[(.*?)\n\]", text, re.DOTALL).group(1)
    locked = audit_lock.LOCK.read_text().lower().replace("_", "-")
    for name in re.findall(r'"([\w-]+)[>\[]', block):
        assert re.search(rf"^{name.lower().replace('_', '-')}==", locked, re.MULTILINE), name
