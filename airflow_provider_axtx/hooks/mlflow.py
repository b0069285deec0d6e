"""Whether, and in which MLflow server, experiments are recorded as well: options of ``[axtx]``."""

from __future__ import annotations

from airflow.sdk import conf


def tracking_uri() -> str | None:
    """Return the address of the MLflow server, or None where experiments are not recorded there."""
    return conf.get("axtx", "mlflow_tracking_uri", fallback="").strip() or None


def tracking_uri_for_apps() -> str | None:
    """Return the address of the server in which each app gets a run; None where apps get none."""
    return tracking_uri() if conf.getboolean("axtx", "mlflow_run_id", fallback=False) else None
