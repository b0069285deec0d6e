"""In which tools experiments are recorded as well: options of ``[axtx]``."""

from __future__ import annotations

from airflow.sdk import conf

from airflow_provider_axtx.hooks.mlflow import tracking_uri


def recording_places() -> dict[str, str]:
    """Return the tools that are asked for, by their names in ``integrations.recorders``, each with its place."""
    places = {
        "MLflow": tracking_uri(),
        "Weights & Biases": wandb_dir(),
        "TensorBoard": tensorboard_log_dir(),
    }
    return {name: place for name, place in places.items() if place}


def wandb_dir() -> str | None:
    """Return the folder of the offline runs, or None where there are none."""
    return conf.get("axtx", "wandb_dir", fallback="").strip() or None


def tensorboard_log_dir() -> str | None:
    """Return TensorBoard's log directory, or None where experiments are not recorded there."""
    return conf.get("axtx", "tensorboard_log_dir", fallback="").strip() or None
