#!/usr/bin/env bash
# Makes an environment with the extra "quality" (JAX, NumPyro) on top of another one, and runs the tests that need it.
# The other environment stays as it is: most users do not have the extra.
# Usage: tests/engines/quality.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
environment=build/quality

"$python" -m venv "$environment"
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
"$environment/bin/python" -m pip install --disable-pip-version-check -qq -c constraints.txt '.[quality]'
# A kernel of its own: it is compiled for one environment.
export TORCH_EXTENSIONS_DIR="$PWD/$environment/torch_extensions"
"$environment/bin/python" -m pytest -m quality
