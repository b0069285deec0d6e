#!/usr/bin/env bash
# Show that this package can be installed with Airflow's official constraints, in the two ways of docs/compatibility.md,
# and that pip refuses the file as it is. pip resolves everything in an empty environment; with --install it also installs
# the second way of that page and imports the package.
#
#   scripts/official_constraints.sh [--install] PYTHON AIRFLOW_VERSION CONSTRAINTS_FILE
set -euo pipefail

install=
[ "$1" != --install ] || { install=1; shift; }
python=$(realpath --no-symlinks "$1")
airflow="apache-airflow==$2"
official=$(realpath "$3")
cd "$(dirname "$0")/.."
# The packages whose pins give way.
give_way='urllib3'
# What TorchX 0.7 needs, but urllib3.
torchx_needs=(docker 'docstring-parser>=0.8.1' filelock 'fsspec>=2023.10.0' importlib-metadata pyre-extensions pyyaml tabulate)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
grep -iqE "^($give_way)==" "$official" || { echo "$official pins none of: $give_way" >&2; exit 2; }
grep -viE "^($give_way)==" "$official" > "$scratch/constraints.txt"
"$python" -m pip wheel -qq --no-deps --wheel-dir "$scratch" .
"$python" -m venv "$scratch/venv"
pip=("$scratch/venv/bin/python" -m pip)

resolve() {
    "${pip[@]}" install -qq --dry-run "$@" 2> "$scratch/said"
}

if resolve -c "$official" "$airflow" "$scratch"/*.whl; then
    echo "pip accepts the official file as it is"
else
    grep -m1 -A6 'conflicting dependencies' "$scratch/said" || cat "$scratch/said"
    echo "pip refuses the official file as it is"
fi
resolve -c "$scratch/constraints.txt" "$airflow" "$scratch"/*.whl || { cat "$scratch/said"; exit 1; }
echo "resolved without the pins of: $give_way"
mapfile -t needs < <("$python" - <<'PY'
import tomllib

with open("pyproject.toml", "rb") as file:
    needs = tomllib.load(file)["project"]["dependencies"]
print(*(need for need in needs if not need.startswith(("apache-airflow", "torchx"))), sep="\n")
PY
)
resolve -c "$official" "$airflow" "${needs[@]}" "${torchx_needs[@]}" || { cat "$scratch/said"; exit 1; }
echo "resolved with every pin, TorchX and this package without their dependencies"
[ -n "$install" ] || exit 0
"${pip[@]}" install -qq --no-compile -c "$scratch/constraints.txt" "$airflow" "$scratch"/*.whl
"${pip[@]}" check
cd "$scratch"
AIRFLOW_HOME="$scratch/home" PYTHONPATH="" "$scratch/venv/bin/airflow" providers list --output plain | grep airflow-provider-axtx
