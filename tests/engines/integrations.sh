#!/usr/bin/env bash
# Makes an environment with the extras "mlflow" and "wandb", pyarrow and Airflow's providers for Kubernetes and Amazon on
# top of another one, one with an MLflow server and one with an S3 server; runs the tests that need them. The other
# environment stays as it is: most users do not have these packages. A third one on top of the other has Airflow's FAB auth
# manager.
# Usage: tests/engines/integrations.sh PYTHON [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift
environment=build/integrations
server=build/mlflow-server
s3=build/moto-server
fab=build/fab

# on_top FOLDER: an environment that also finds the packages of the other one.
on_top() {
    "$python" -m venv "$1"
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        > "$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
}

on_top "$environment"
# MLflow 3.17 asks for cachetools below 8 and importlib_metadata below 10; Airflow itself accepts both. The provider for
# Kubernetes asks for urllib3 2, TorchX 0.7 for urllib3 1; TorchX works with both. AWS's client
# and FAB ask for python-dateutil 2.
grep -viE '^(cachetools|importlib_metadata|urllib3|python-dateutil)==' constraints.txt > "$environment/constraints.txt"
"$environment/bin/python" -m pip install --disable-pip-version-check -qq -c "$environment/constraints.txt" 'mlflow-skinny>=3' 'wandb>=0.20' pyarrow \
    'apache-airflow-providers-cncf-kubernetes>=10.20'
# A step of its own, with the versions of AWS's clients narrowed: pip would try one release after the other.
"$environment/bin/python" -m pip install --disable-pip-version-check -qq -c "$environment/constraints.txt" s3fs \
    'aiobotocore[boto3]>=3.10' 'apache-airflow-providers-amazon>=9.30'
"$python" -m venv "$server"
"$server/bin/python" -m pip install --disable-pip-version-check -qq 'mlflow>=3'
"$python" -m venv "$s3"
"$s3/bin/python" -m pip install --disable-pip-version-check -qq 'moto[server,s3]>=5'
export AXTX_TEST_MOTO_SERVER="$PWD/$s3/bin/moto_server"
export AXTX_TEST_MLFLOW_SERVER="$PWD/$server/bin/mlflow"
export WANDB_MODE=offline
on_top "$fab"
"$fab/bin/python" -m pip install --disable-pip-version-check -qq -c "$environment/constraints.txt" 'apache-airflow-providers-fab>=3.10'
export PYTHONPATH="$PWD"
"$environment/bin/python" -m pytest -m integrations --ignore tests/integrations/test_fab.py "$@"
"$fab/bin/python" -m pytest -m integrations tests/integrations/test_fab.py
