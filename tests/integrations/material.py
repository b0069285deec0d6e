"""Experiments to be recorded, and processes that record them and are killed."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.core.records import AttemptRecord, Observation, Proposal, ProposedTrial, TrialEnd
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import begin

#: Name of an experiment that several processes record at once.
AT_ONCE = "at-once"
SPEC: dict[str, Any] = {
    "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
    "objective": "-loss",
}


def filled(url: str, name: str) -> ExperimentStore:
    """Return a store with an experiment: a completed trial with a curve, one whose second attempt has failed."""
    store = ExperimentStore(url)
    store.create(name, ExperimentSpec.load({**SPEC, "name": name}).to_json())
    trials = tuple(ProposedTrial(f"{i}_0", {"x": 0.5}, "Sobol", {}) for i in range(2))
    store.add_trials(name, Proposal(trials, None), task_key="t", first_slot=0, expected_version=0)
    curve = [Observation(0, "loss", 1 / (1 + step), step=float(step)) for step in range(3)]
    ended(store, begin(store, name, 0), "SUCCEEDED", TrialEnd("COMPLETED", (*curve, Observation(0, "loss", 0.25))))
    store.finish_attempt(begin(store, name, 1), "FAILED", "node lost", is_infrastructure_failure=True)
    ended(store, begin(store, name, 1, expected_attempt=2), "FAILED", TrialEnd("FAILED"))
    return store


def ended(store: ExperimentStore, attempt: AttemptRecord, state: str, end: TrialEnd) -> None:
    """End an attempt and its trial."""
    store.record_handle(attempt, f"local://torchx/{attempt.submission_key}")
    store.end_attempt(attempt, AppObservation(state, "exit 1"), end)


def recorded(url: str, name: str, tool: str, place: str, armed: str = "") -> BaseProcess:
    """Return a process that brings a tool up to date, and is killed at the crash point."""
    process = multiprocessing.get_context("fork").Process(target=_record, args=(url, name, tool, place, armed))
    process.start()
    return process


def _record(url: str, name: str, tool: str, place: str, armed: str) -> None:
    from airflow_provider_axtx.integrations.recorders import RECORDERS
    from airflow_provider_axtx.integrations.recording import record
    from airflow_provider_axtx.launcher import mlflow_runs

    if armed:
        os.environ[ARMED_VARIABLE] = armed
    if name != AT_ONCE:
        mlflow_runs._ABANDONED_SECONDS = 2.0  # so that what a killed process has left is adopted soon
    record(ExperimentStore(url), name, RECORDERS[tool](place))


def exit_code(process: BaseProcess) -> int | None:
    """Wait for the end of a process."""
    process.join(300)
    return process.exitcode


def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, place: str) -> SimpleNamespace:
    """Fill the store of ``ax_default`` and configure a tool; return a task instance for the listener."""
    from airflow_provider_axtx.hooks import installation

    filled(f"sqlite:///{tmp_path}/s.db", "heard")
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", f'{{"conn_type": "ax", "schema": "{tmp_path}/s.db"}}')
    monkeypatch.setattr(installation, "installation_id", lambda: "")
    monkeypatch.setenv(f"AIRFLOW__AXTX__{option}", place)
    return SimpleNamespace(task=SimpleNamespace(ax_conn_id="ax_default"), dag_id="dag", run_id="manual__1")


def warnings_of_listener(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return the list that gets what the listener will have warned of: its text, and of which tool."""
    from airflow_provider_axtx.listeners import recording

    told: list[tuple[str, str]] = []
    monkeypatch.setattr(recording.log, "warning", lambda text, tool, error: told.append((text, tool)))
    return told
