"""The tools in which experiments can be recorded as well."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_axtx.integrations.mlflow_mirror import MlflowRecorder
from airflow_provider_axtx.integrations.recording import Recorder
from airflow_provider_axtx.integrations.tensorboard_files import TensorBoardRecorder
from airflow_provider_axtx.integrations.wandb_folders import WandbRecorder

#: By name, what makes a recorder for a place: an address, or a folder.
RECORDERS: dict[str, Callable[[str], Recorder]] = {
    "MLflow": MlflowRecorder,
    "Weights & Biases": WandbRecorder,
    "TensorBoard": TensorBoardRecorder,
}
