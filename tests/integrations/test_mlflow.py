"""Experiments in a real MLflow server: each (experiment, trial, attempt) once, whatever is killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TrialEnd
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.integrations.material import (
    AT_ONCE,
    SPEC,
    ended,
    exit_code,
    filled,
    heard,
    recorded,
    warnings_of_listener,
)
from tests.store.material import begin

pytestmark = pytest.mark.integrations

TOOL = "MLflow"


def runs_of(uri: str, name: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, f"tags.`axtx.experiment` = '{name}'"))


def assert_once(uri: str, name: str) -> None:
    """Assert that there is a parent and a nested run for each attempt, complete and marked."""
    from mlflow import MlflowClient

    runs = {run.info.run_name: run for run in runs_of(uri, name)}
    assert Counter(run.info.run_name for run in runs_of(uri, name)) == Counter(
        [name, "trial 0", "trial 1", "trial 1, attempt 2"]
    )
    parent = runs.pop(name)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {title: run.info.status for title, run in runs.items()} == {
        "trial 0": "FINISHED",
        "trial 1": "FAILED",
        "trial 1, attempt 2": "FAILED",
    }
    assert runs["trial 0"].data.params == {"x": "0.5"}
    history = MlflowClient(uri).get_metric_history(runs["trial 0"].info.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == [(0, 1.0), (1, 0.5), (2, 1 / 3), (3, 0.25)]
    assert parent.data.tags["axtx.best_trials"] == "0"


def test_an_experiment_is_recorded_once_however_often(tmp_path: Path, mlflow_uri: str) -> None:
    from airflow_provider_axtx.integrations.mlflow_mirror import mirror
    from airflow_provider_axtx.integrations.recording import Mirrored

    store = filled(f"sqlite:///{tmp_path}/s.db", "often")
    assert mirror(store, "often", mlflow_uri) == Mirrored("often", 3, 3)
    assert mirror(store, "often", mlflow_uri) == Mirrored("often", 3, 0)
    assert_once(mlflow_uri, "often")
    store.finish("often", "max_trials")
    mirror(store, "often", mlflow_uri)
    (parent,) = (run for run in runs_of(mlflow_uri, "often") if run.info.run_name == "often")
    assert (parent.info.status, parent.data.tags["axtx.stop_reason"]) == ("FINISHED", "max_trials")


@pytest.mark.parametrize(
    "point",
    [
        *(f"mlflow.after_create:{passage}" for passage in (1, 2, 4)),
        *("mlflow.before_write:1", "mlflow.after_metrics:1", "mlflow.after_metrics:3"),
    ],
)
def test_a_killed_call_is_repaired_by_the_next(tmp_path: Path, mlflow_uri: str, point: str) -> None:
    url, name = f"sqlite:///{tmp_path}/s.db", f"killed-{point.replace(':', '-')}"
    filled(url, name)
    assert exit_code(recorded(url, name, TOOL, mlflow_uri, point)) == -signal.SIGKILL
    assert exit_code(recorded(url, name, TOOL, mlflow_uri)) == 0
    assert_once(mlflow_uri, name)


def test_processes_at_once_make_no_second_run(tmp_path: Path, mlflow_uri: str) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    filled(url, AT_ONCE)
    processes = [recorded(url, AT_ONCE, TOOL, mlflow_uri) for _ in range(4)]
    # MLflow refuses a parameter that another process writes at the same moment: that call fails, and the next repairs.
    assert 0 in [exit_code(process) for process in processes]
    assert exit_code(recorded(url, AT_ONCE, TOOL, mlflow_uri)) == 0
    assert_once(mlflow_uri, AT_ONCE)


APP = """
import mlflow
with mlflow.start_run():
    for step in range(3):
        mlflow.log_metric("val_loss", 1.0 / (1 + step), step=step)
    mlflow.log_metric("loss", 0.125)
"""


def test_what_an_app_logs_arrives_in_its_run_and_counts(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_axtx.core.metric_sources import load_metrics
    from airflow_provider_axtx.integrations.mlflow_mirror import mirror
    from airflow_provider_axtx.launcher.metric_reader import MeasuredApp, read_metrics
    from airflow_provider_axtx.lifecycle.mlflow import mlflow_variables

    store = ExperimentStore(f"sqlite:///{tmp_path}/s.db")
    store.create("own", ExperimentSpec.load({**SPEC, "name": "own"}).to_json())
    trial = ProposedTrial("0_0", {"x": 0.5}, "Sobol", {})
    store.add_trials("own", Proposal((trial,), None), task_key="t", first_slot=0, expected_version=0)
    attempt = begin(store, "own", 0)
    metrics = {
        "loss": {"mlflow": "val_loss", "tracking_uri": mlflow_uri, "take": "min"},
        "other": {"mlflow": "nothing", "tracking_uri": mlflow_uri},
    }
    variables = mlflow_variables(store, attempt, metrics, None)
    assert mlflow_variables(store, attempt, None, mlflow_uri) == variables  # the same run again
    subprocess.run([sys.executable, "-c", APP], env={**os.environ, **variables}, check=True)
    measured = read_metrics(MeasuredApp.of(attempt), load_metrics(metrics), may_be_cut=False)
    assert measured.values == {"loss": pytest.approx(1 / 3)}
    assert sorted(measured.steps) == [0, 1, 2]
    assert "has no metric 'nothing'" in measured.missing["other"]
    ended(store, attempt, "SUCCEEDED", TrialEnd("COMPLETED", (Observation(0, "loss", 1 / 3),)))
    mirror(store, "own", mlflow_uri)
    nested = [run for run in runs_of(mlflow_uri, "own") if "mlflow.parentRunId" in run.data.tags]
    assert [(run.info.run_id, run.data.metrics) for run in nested] == [
        (variables["MLFLOW_RUN_ID"], {"val_loss": pytest.approx(1 / 3), "loss": 0.125})
    ]
    _delete(mlflow_uri, variables["MLFLOW_RUN_ID"])
    measured = read_metrics(MeasuredApp.of(attempt), load_metrics(metrics), may_be_cut=False)
    assert "MLflow has no run" in measured.missing["loss"]


def test_odd_names_and_steps_are_recorded_as_mlflow_takes_them(tmp_path: Path, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    from airflow_provider_axtx.integrations.mlflow_mirror import mirror

    store = ExperimentStore(f"sqlite:///{tmp_path}/s.db")
    spec = {**SPEC, "name": "odd", "objective": "recall@10"}
    text = {"type": "choice", "name": "größe", "parameter_type": "str", "values": ["x" * 7000, "y"]}
    spec["parameters"] = [*SPEC["parameters"], text]
    store.create("odd", ExperimentSpec.load(spec).to_json())
    trials = tuple(ProposedTrial(f"{i}_0", {"x": 0.5, "größe": "x" * 7000}, "Sobol", {}) for i in range(2))
    store.add_trials("odd", Proposal(trials, None), task_key="t", first_slot=0, expected_version=0)
    curve = [Observation(0, "recall@10", value, step=step) for step, value in ((1.0, 0.25), (1e20, 0.5), (-1e300, 0.1))]
    odd = ["recall|10", "a//b", "../up", "/root", ".", "%" * 250, "ü (val)", *(f"{'long' * 60}{i}" for i in range(400))]
    finals = [Observation(0, name, float(position)) for position, name in enumerate(["recall@10", *odd])]
    ended(store, begin(store, "odd", 0), "SUCCEEDED", TrialEnd("COMPLETED", (*curve, *finals)))
    ended(store, begin(store, "odd", 1), "SUCCEEDED", TrialEnd("COMPLETED", (Observation(1, "recall@10", 0.75),)))
    assert mirror(store, "odd", mlflow_uri).written == 2
    assert mirror(store, "odd", mlflow_uri).written == 0
    runs = {run.info.run_name: run for run in runs_of(mlflow_uri, "odd")}
    assert runs["trial 1"].data.metrics == {"recall_10": 0.75}
    assert runs["trial 0"].data.params == {"x": "0.5", "größe": "x" * 6000}
    recorded = runs["trial 0"].data.metrics
    assert sorted(recorded.values()) == [float(position) for position in range(len(finals))]
    assert recorded["ü _val_"] == 7
    (of_recall,) = (name for name, value in recorded.items() if value == 0)
    assert of_recall.startswith("recall_10_")
    history = MlflowClient(mlflow_uri).get_metric_history(runs["trial 0"].info.run_id, of_recall)
    assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.0)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_fails_its_trial_and_is_no_step(tmp_path: Path, mlflow_uri: str, value: float) -> None:
    from mlflow import MlflowClient

    from airflow_provider_axtx.lifecycle.complete import conclude
    from airflow_provider_axtx.lifecycle.mlflow import mlflow_variables

    name = f"infinite{value}"
    store = ExperimentStore(f"sqlite:///{tmp_path}/s.db")
    store.create(name, ExperimentSpec.load({**SPEC, "name": name}).to_json())
    trial = ProposedTrial("0_0", {"x": 0.5}, "Sobol", {})
    store.add_trials(name, Proposal((trial,), None), task_key="t", first_slot=0, expected_version=0)
    metrics = {"loss": {"mlflow": "loss", "tracking_uri": mlflow_uri}}
    store.record_app(name, {"metrics": metrics})
    attempt = begin(store, name, 0)
    run_id = mlflow_variables(store, attempt, metrics, None)["MLFLOW_RUN_ID"]
    MlflowClient(mlflow_uri).log_metric(run_id, "loss", 0.5, step=1)
    MlflowClient(mlflow_uri).log_metric(run_id, "loss", value, step=2)
    done = conclude(store, attempt, AppObservation("SUCCEEDED"))
    assert done["trial_status"] == "FAILED"
    assert "is not a finite number" in done["message"]
    assert [(one.step, one.mean) for one in store.observations(name, 0)] == [(1, 0.5)]


def _delete(uri: str, run_id: str) -> None:
    from mlflow import MlflowClient

    MlflowClient(uri).delete_run(run_id)


def test_the_listener_records_the_experiments_of_its_dag_run_and_never_fails(
    tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_axtx.listeners import recording as listener

    ti = heard(tmp_path, monkeypatch, "MLFLOW_TRACKING_URI", mlflow_uri)
    listener.on_task_instance_success(None, ti)
    assert_once(mlflow_uri, "heard")
    monkeypatch.setenv("AIRFLOW__AXTX__MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(listener, "DEADLINE_SECONDS", 0.5)
    told = warnings_of_listener(monkeypatch)
    listener.on_task_instance_failed(None, ti, None)
    assert told == [(listener.NOT_UP_TO_DATE, TOOL)]


def test_frames_are_written_as_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from airflow_provider_axtx.hooks.ax import AxHook

    filled(f"sqlite:///{tmp_path}/s.db", "parquet")
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", f'{{"conn_type": "ax", "schema": "{tmp_path}/s.db"}}')
    for table in ("trials", "attempts", "curves"):
        frame = AxHook().get_frame("parquet", table)
        frame.to_parquet(tmp_path / "frame.parquet", index=False)
        assert len(pd.read_parquet(tmp_path / "frame.parquet")) == len(frame)
