#!/usr/bin/env bash
# Makes an environment with Airflow's providers for Celery and Git on top of another one, installs Redis (Debian, as root),
# and runs the tests that need them. The other environment stays as it is: most users do not have these packages.
# Usage: tests/engines/celery.sh PYTHON [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift
environment=build/celery

tests/engines/apt_install.sh redis-server iproute2 git
tests/engines/postgres_install.sh
"$python" -m venv "$environment"
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
"$environment/bin/python" -m pip install --disable-pip-version-check -qq -c constraints.txt 'apache-airflow-providers-celery>=3.20' \
    'apache-airflow-providers-git>=1' redis psycopg2-binary
PYTHONPATH="$PWD" "$environment/bin/python" -m pytest tests/platform "$@"
