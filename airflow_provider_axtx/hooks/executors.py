"""Whether this Airflow runs its tasks on several machines."""

from __future__ import annotations

import os

from airflow.sdk import conf

#: Executors that run the tasks on the machine of the scheduler.
_LOCAL_EXECUTORS = ("LocalExecutor", "SequentialExecutor")


def remote_executors() -> list[str]:
    """Return the names of the configured executors that may run tasks on other machines than the scheduler's."""
    executors = [name.strip().rpartition(".")[2] for name in conf.get("core", "executor", fallback="").split(",")]
    remote = [name.rpartition(":")[2] for name in executors if name and not name.endswith(_LOCAL_EXECUTORS)]
    # A task in a pod of KubernetesExecutor does not have the option: Airflow sets it to LocalExecutor there.
    return remote or (["KubernetesExecutor"] if os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD") else [])
