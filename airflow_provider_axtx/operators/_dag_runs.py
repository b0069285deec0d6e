"""What Airflow knows about the DAG runs behind an experiment's trials."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.records import TaskIdentity

if TYPE_CHECKING:
    from airflow_provider_axtx.lifecycle.launchers import LauncherFor
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

_ACTIVE = ("queued", "running")
_NOT_FOUND = 404


def settle_what_ended_dag_runs_left(
    store: ExperimentStore, launcher_for: LauncherFor, experiment: str, task: TaskIdentity, ti: Any
) -> None:
    """Settle the open trials of an experiment whose DAG runs are over, before a task goes on with it.

    A DAG run that was marked, timed out or deleted may leave trials that no task settles any more.

    :param ti: the running task instance, which asks Airflow for the states of the DAG runs.
    """
    # Imported here, because a DAG file that is parsed does not need it and its twenty modules.
    from airflow_provider_axtx.lifecycle.reap import settle_ended_dag_runs

    try:
        settled = settle_ended_dag_runs(store, launcher_for, experiment, task, lambda owner: is_active(ti, owner))
    except SchedulerUnavailableError as error:
        # What another DAG run has left, for example on a host that is gone, must not fail this one.
        log.warning("A DAG run that is over has left trials open: %s", error)
        return
    for one in settled:
        log.warning("A DAG run that is over had left trial %s open: %s (%s)", one.trial_index, one.trial_status, one)


def is_active(ti: Any, owner: TaskIdentity) -> bool:
    """Return whether the DAG run of a task is queued or running; one that Airflow does not know is not."""
    try:
        return ti.get_dagrun_state(owner.dag_id, owner.run_id) in _ACTIVE
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == _NOT_FOUND:
            return False
        raise
