"""Processes in an AIRFLOW_HOME of the documentation's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def page_environment(home: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Without airflow.cfg every process would generate its own key.
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}",
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "DOCS_ROOT": str(ROOT),
        "DOCS_BIN": str(scripts),
        "DOCS_PYTHON": sys.executable,
    }


def run(module: str, *arguments: str, home: Path, cwd: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=page_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-8000:]
    return ended.stdout
