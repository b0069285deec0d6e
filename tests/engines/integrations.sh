#!/usr/bin/env bash
# Makes an environment with the extras "mlflow" and "wandb", pyarrow and Airflow's provider for Kubernetes on top of another
# one, and a second one with an MLflow server; runs the tests that need them. The other environment stays as it is: most users do not have these packages.
# Usage: tests/engines/integrations.sh PYTHON [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift
environment=build/integrations
server=build/mlflow-server

"$python" -m venv "$environment"
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
# MLflow 3.17 asks for cachetools below 8 and importlib_metadata below 10; Airflow itself accepts both. The provider for
# Kubernetes asks for urllib3 2, TorchX 0.7 for urllib3 1; TorchX works with both.
grep -viE '^(cachetools|importlib_metadata|urllib3)==' constraints.txt > "$environment/constraints.txt"
"$environment/bin/python" -m pip install --disable-pip-version-check -qq -c "$environment/constraints.txt" 'mlflow-skinny>=3' 'wandb>=0.20' pyarrow \
    'apache-airflow-providers-cncf-kubernetes>=10.20'
"$python" -m venv "$server"
"$server/bin/python" -m pip install --disable-pip-version-check -qq 'mlflow>=3'
export AXTX_TEST_MLFLOW_SERVER="$PWD/$server/bin/mlflow"
export WANDB_MODE=offline
PYTHONPATH="$PWD" "$environment/bin/python" -m pytest -m integrations "$@"
