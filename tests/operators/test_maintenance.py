"""The operators of a scheduled DAG that ends what is left behind and removes what is old."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.launcher.local_detached.app_dir import this_host
from airflow_provider_axtx.operators import maintenance
from airflow_provider_axtx.operators.ax import AxCleanupOperator, AxReapOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.lifecycle.rig import SPEC
from tests.operators.conftest import Execute
from tests.store.material import add, begin


@pytest.fixture
def active(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The ids of the DAG runs that are active."""
    found: set[str] = set()
    monkeypatch.setattr(maintenance, "is_active", lambda ti, task: task.run_id in found)
    monkeypatch.setattr(maintenance, "installation_id", lambda: "ours")
    return found


def fill(store: ExperimentStore, name: str, installation: str = "ours") -> None:
    """Make an experiment with one trial of the DAG run that has the experiment's name."""
    task = TaskIdentity("dag", name, "t", installation=installation)
    store.create(name, {**SPEC, "name": name}, created_by=task)
    add(store, name)
    begin(store, name, 0, identity=task, lookup_options={}, host=this_host()["host"])


@pytest.mark.usefixtures("active")
def test_without_a_store_there_is_nothing_to_do(execute: Execute, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", f"sqlite:///{tmp_path / 'none.db'}")
    assert execute(AxReapOperator(task_id="reap")) == []
    assert execute(AxCleanupOperator(task_id="cleanup", older_than="90d")) == []
    assert not (tmp_path / "none.db").exists()


def test_what_active_dag_runs_and_others_have_is_left_alone(
    execute: Execute, store: ExperimentStore, active: set[str]
) -> None:
    fill(store, "over")
    fill(store, "active")
    fill(store, "theirs", installation="theirs")
    active.add("active")
    (reaped,) = execute(AxReapOperator(task_id="reap"))
    assert (reaped["experiment"], reaped["trial_status"]) == ("over", "ABANDONED")
    assert [store.trial(name, 0).status for name in ("active", "theirs")] == ["STAGED", "STAGED"]
    assert execute(AxReapOperator(task_id="reap")) == []


def test_what_is_old_is_removed(execute: Execute, store: ExperimentStore, active: set[str]) -> None:
    for name in ("old", "active"):
        fill(store, name)
    active.add("active")
    execute(AxReapOperator(task_id="reap"))
    attempt = store.attempts("old")[0]
    store.record_handle(attempt, f"local_detached://torchx/{attempt.submission_key}")
    store.finish_attempt(attempt, "CANCELLED", "")
    cleanup = AxCleanupOperator(task_id="cleanup", older_than="{{ params.older_than }}")
    cleanup.older_than = timedelta(hours=1)
    assert execute(cleanup) == []
    time.sleep(0.01)
    cleanup.older_than = "0.005"
    removed, left = sorted(execute(cleanup), key=lambda line: str(line["result"]), reverse=True)
    assert (removed["experiment"], removed["result"]) == ("old", "removed")
    assert (left["experiment"], left["result"]) == ("active", "left")
    assert [summary.name for summary in store.summaries()] == ["active"]


def test_an_age_is_checked_at_parse_or_at_the_start(execute: Execute, store: ExperimentStore) -> None:
    with pytest.raises(InvalidInputError, match="older_than"):
        AxCleanupOperator(task_id="cleanup", older_than="soon")
    cleanup = AxCleanupOperator(task_id="cleanup", older_than="{{ params.older_than }}")
    cleanup.older_than = "soon"
    with pytest.raises(AirflowFailException, match="older_than"):
        execute(cleanup)
