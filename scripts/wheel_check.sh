#!/usr/bin/env bash
# Build the wheel, install it in an empty environment, and ask Airflow there what it sees.
# Usage: wheel_check.sh PYTHON
set -euo pipefail

python=$(realpath --no-symlinks "$1")
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

"$python" -m pip wheel -qq --no-deps --wheel-dir "$scratch" .
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install -qq --no-compile -c constraints.txt "$scratch"/*.whl
echo "installed $(basename "$scratch"/*.whl)"

# Away from the checkout, so that only the installed files can be imported.
cd "$scratch"
export AIRFLOW_HOME="$scratch/home" PATH="$scratch/venv/bin:$PATH"
unset PYTHONPATH
airflow providers list --output plain > providers.txt
airflow providers hooks --output plain > hooks.txt
grep airflow-provider-axtx providers.txt
for connection in ax torchx; do
    grep -E "^$connection +" hooks.txt
done
python - <<'PY'
"""Import every module of the installed package but the one for Airflow's OpenLineage provider, which is an extra."""
import importlib
import pkgutil

import airflow_provider_axtx

found = pkgutil.walk_packages(airflow_provider_axtx.__path__, "airflow_provider_axtx.")
names = [each.name for each in found if not each.name.rpartition(".")[2].startswith("_")]
names.remove("airflow_provider_axtx.lineage")
for name in names:
    importlib.import_module(name)
print(f"imported {len(names)} modules")
PY
