"""Look up the known vulnerabilities of every package in the locks, `requirements*.lock`.

    pip install pip-audit
    python scripts/audit_lock.py

Exit status 1: some are known. Status 2: not all packages could be looked up.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCKS = tuple(sorted(Path(__file__).resolve().parent.parent.glob("requirements*.lock")))
"""Of development and tests; of the tests of the web page, of PySODMetrics and of ports."""


def ask(lock: Path) -> list[dict[str, Any]]:
    """Return what pip-audit says of each package of a lock.

    Raises:
        RuntimeError: if it says nothing, as without network.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip"]
    finished = subprocess.run(
        [*command, "--no-deps", "--format=json", "--progress-spinner=off"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not finished.stdout.strip():
        said = finished.stderr.strip().splitlines() or ["pip-audit said nothing"]
        raise RuntimeError(said[-1])
    found: list[dict[str, Any]] = json.loads(finished.stdout)["dependencies"]
    return found


def report(packages: Sequence[dict[str, Any]]) -> int:
    """Print what is known of the packages and return the exit status."""
    vulnerable = [package for package in packages if package.get("vulns")]
    unknown = [package["name"] for package in packages if "vulns" not in package]
    for package in vulnerable:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {found['id']}, mended in {fixed}")
    looked_up = len(packages) - len(unknown)
    print(f"{looked_up} of {len(packages)} packages looked up, {len(vulnerable)} vulnerable")
    if unknown:
        more = f" and {len(unknown) - 5} others" if len(unknown) > 5 else ""
        print(f"not looked up: {', '.join(unknown[:5])}{more}", file=sys.stderr)
    return 1 if vulnerable else 2 if unknown else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit all locks; a package of one version that is in several counts once.

    Args:
        arguments: of the command line, that of this process by default.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    try:
        packages = {
            (package["name"], package.get("version")): package
            for lock in LOCKS
            for package in ask(lock)
        }
        return report(list(packages.values()))
    except RuntimeError as error:
        print(f"nothing was looked up: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
