"""What an app inherits of the environment of its submitter."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.launcher.local_detached.app_dir import TOKEN_VARIABLE

#: Configuration and secrets of Airflow's own processes, and what a task process tells its children about itself (its
#: supervisor's socket, its start message, a database URL that is blocked on purpose).
_WITHHELD_PREFIXES = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "_AIRFLOW_", "__AIRFLOW_")


def app_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what an app inherits of the environment of its submitter."""
    withheld = (ARMED_VARIABLE, TOKEN_VARIABLE)
    return {k: v for k, v in environ.items() if k not in withheld and not k.startswith(_WITHHELD_PREFIXES)}
