"""Whether another DAG run is over is what Airflow answers: the trials of one that runs are its own."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from airflow.sdk.execution_time.comms import DagRunStateResult

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.lifecycle import reap
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
    assert _dag_runs.is_active(_Airflow(state), owner) is is_active


def test_what_another_dag_run_has_left_on_a_host_that_is_gone_fails_no_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise SchedulerUnavailableError("2 of 2 trials could not be ended.", fix="airflow ax reap --lost-host worker-7")

    monkeypatch.setattr(reap, "settle_ended_dag_runs", away)
    task = TaskIdentity(dag_id="dag", run_id="run", task_id="task")
    store: Any = None
    with caplog.at_level(logging.WARNING, logger=_dag_runs.log.name):
        _dag_runs.settle_what_ended_dag_runs_left(store, lambda attempt: pytest.fail(), "e", task, _Airflow("success"))
    assert "--lost-host worker-7" in caplog.text
