"""Where things are kept when no connection says otherwise: folders below AIRFLOW_HOME."""

from __future__ import annotations

import os
from pathlib import Path


def axtx_home() -> Path:
    """Return ``$AIRFLOW_HOME/axtx`` (``~/airflow/axtx`` without the variable) as an absolute path; it may not exist.

    Read from the environment, as Airflow itself does: a task process of the Task SDK has no other access to it.
    """
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().absolute() / "axtx"
