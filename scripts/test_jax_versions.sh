#!/usr/bin/env bash
# Run the tests with the oldest JAX that pyproject.toml allows, and with the newest that installs:
#
#     scripts/test_jax_versions.sh [VERSION|newest ...] [-- ARGUMENTS OF PYTEST]
#
# The newest comes with the newest of all packages and, where there is one, Python 3.13; beside an older
# JAX they are those of requirements.lock, as far as it allows.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  versions+=("$1")
  shift
done
[ $# -eq 0 ] || shift
if [ ${#versions[@]} -eq 0 ]; then
  versions=("$(sed -n 's/.*"jax>=\([0-9.]*\)".*/\1/p' pyproject.toml).0" newest)
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
grep -E '^[a-z]' requirements.lock | grep -vE '^jax(lib)?==' | sed 's/ *\\$//' >"$folder/others.txt"
failed=()
for version in "${versions[@]}"; do
  python=python3
  packages=("jax==$version" -e '.[test]')
  options=(--constraint "$folder/others.txt")
  if [ "$version" = newest ]; then
    for python in python3.13 python3.12 python3; do "$python" -c '' 2>/dev/null && break; done
    packages=(jax -e '.[test]')
    options=(--upgrade)
  fi
  "$python" -m venv "$folder/$version"
  python="$folder/$version/bin/python"
  pip=("$python" -m pip --quiet --disable-pip-version-check install)
  "${pip[@]}" "${options[@]}" "${packages[@]}" || "${pip[@]}" "${packages[@]}"
  "$python" -c 'import jax, sys; print("JAX", jax.__version__, "Python", sys.version.split()[0])'
  "$python" -m pytest -p no:cacheprovider --numprocesses=auto --maxprocesses=4 \
    --dist=loadfile --no-loadscope-reorder --quickly-compiled "$@" || failed+=("JAX $version")
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'the tests failed with %s\n' "${failed[@]}" >&2
  exit 1
fi
