"""Whether another DAG run is over is what Airflow answers: the trials of one that runs are its own."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.execution_time.comms import DagRunStateResult

from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.operators import _dag_runs


class _Airflow:
    """A task instance that asks Airflow for the state of a DAG run."""

    def __init__(self, state: str) -> None:
        self._state = state

    def get_dagrun_state(self, dag_id: str, run_id: str) -> Any:
        return DagRunStateResult(state=self._state).state


@pytest.mark.parametrize(
    ("state", "is_active"), [("queued", True), ("running", True), ("success", False), ("failed", False)]
)
def test_a_dag_run_is_active_while_it_is_queued_or_running(state: str, is_active: bool) -> None:
    owner = TaskIdentity(dag_id="dag", run_id="run", task_id="task")
    assert _dag_runs._is_active(_Airflow(state), owner) is is_active
