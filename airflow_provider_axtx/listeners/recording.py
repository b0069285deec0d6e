"""Records experiments in other tools whenever a task that works on them ends or goes on.

Airflow calls these functions in the process of each task, so the module imports nothing that it may not need.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

#: How long a task may be kept by a server, or a file server, that does not answer.
DEADLINE_SECONDS = 60.0
NOT_UP_TO_DATE = "%s is not up to date; the next task, or a command of airflow ax, repairs that: %s"


@hookimpl
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:
    """Record what the earlier steps of a whole experiment in one task have brought."""
    task = getattr(task_instance, "task", None)
    if hasattr(task, "ax_conn_id") and hasattr(task, "max_trials"):
        record(task_instance)


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    """Record what the task has brought."""
    record(task_instance)


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:
    """Record what the task has brought."""
    record(task_instance)


def record(task_instance: Any) -> None:
    """Bring the tools up to date with the experiments of the task's DAG run; whatever fails is only logged."""
    conn_id = getattr(getattr(task_instance, "task", None), "ax_conn_id", None)
    if conn_id is None:
        return
    from airflow_provider_axtx.hooks.recording import recording_places

    for tool, place in recording_places().items():
        try:
            _record_in(tool, place, task_instance, conn_id)
        except Exception as error:  # noqa: BLE001 - a listener must not fail the task
            log.warning(NOT_UP_TO_DATE, tool, error)


def _record_in(tool: str, place: str, task_instance: Any, conn_id: str) -> None:
    from airflow_provider_axtx.core.deadline import in_time
    from airflow_provider_axtx.hooks.ax import AxHook
    from airflow_provider_axtx.hooks.installation import installation_id

    # Connections and Variables are asked for in the task's own thread, which alone talks to Airflow.
    hook, installation = AxHook(conn_id), installation_id()
    store, url = hook.existing_store, hook.get_url()
    run = (task_instance.dag_id, task_instance.run_id, installation)
    in_time(lambda: _record_all(store, url, run, tool, place), DEADLINE_SECONDS)


def _record_all(store: Any, url: str, run: tuple[str, str, str], tool: str, place: str) -> None:
    from airflow_provider_axtx.integrations import recording
    from airflow_provider_axtx.integrations.recorders import RECORDERS
    from airflow_provider_axtx.store.views import ExperimentViews

    recording.record_all(store, ExperimentViews(url).experiments_of(*run), lambda: RECORDERS[tool](place))
