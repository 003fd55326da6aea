#!/usr/bin/env bash
# Run the tests with the oldest JAX that pyproject.toml allows, and with the newest that installs:
#
#     scripts/test_jax_versions.sh [VERSION|newest ...] [-- ARGUMENTS OF PYTEST]
#
# All other packages are those of requirements.lock, as far as that JAX allows.
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
  [ "$version" = newest ] && wanted=jax || wanted="jax==$version"
  python3 -m venv "$folder/$version"
  pip=("$folder/$version/bin/python" -m pip --quiet --disable-pip-version-check)
  "${pip[@]}" install --constraint "$folder/others.txt" "$wanted" -e '.[test]' \
    || "${pip[@]}" install "$wanted" -e '.[test]'
  "$folder/$version/bin/python" -c 'import jax, sys; print("JAX", jax.__version__, "Python", sys.version.split()[0])'
  "$folder/$version/bin/python" -m pytest -p no:cacheprovider --numprocesses=auto --maxprocesses=4 \
    --dist=loadfile --no-loadscope-reorder "$@" || failed+=("$version")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "the tests failed with JAX ${failed[*]}" >&2
  exit 1
fi
