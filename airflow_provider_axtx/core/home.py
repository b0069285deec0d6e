"""The default folder for experiments, apps and results when no connection names another place."""

from __future__ import annotations

import os
from pathlib import Path


def axtx_home() -> Path:
    """Return ``$AIRFLOW_HOME/axtx`` (``~/airflow/axtx`` without the variable) as an absolute path.

    The folder may not exist yet. The variable comes from the environment, as in Airflow itself, because a task process
    of the Task SDK has no other access to it.
    """
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().absolute() / "axtx"
