"""A DAG run whose experiment Airflow's tasks record in MLflow, Weights & Biases and TensorBoard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.integrations.test_mlflow import runs_of

pytestmark = pytest.mark.integrations

DAG = """
from airflow.sdk import dag
from airflow_provider_axtx.operators.ax import AxOptimizeOperator

BOUNDS = {"type": "range", "parameter_type": "float", "bounds": [-10.0, 10.0]}


@dag(schedule=None)
def recorded():
    AxOptimizeOperator(
        task_id="tune",
        experiment={
            "name": "recorded",
            "parameters": [{**BOUNDS, "name": "x1"}, {**BOUNDS, "name": "x2"}],
            "objective": "-booth_eval",
            "generation": {"method": "random_search"},
        },
        component="utils.booth",
        max_trials=3,
        parallelism=3,
        deferrable=False,
    )


recorded()
"""


def test_the_tasks_of_a_dag_record_its_experiment_in_each_tool(
    tmp_path: Path, airflow_home: Path, mlflow_uri: str
) -> None:
    (airflow_home / "dags").mkdir()
    (airflow_home / "dags" / "recorded.py").write_text(DAG)
    environment = {
        **os.environ,
        "AIRFLOW__AXTX__MLFLOW_TRACKING_URI": mlflow_uri,
        "AIRFLOW__AXTX__WANDB_DIR": str(tmp_path / "runs"),
        "AIRFLOW__AXTX__TENSORBOARD_LOG_DIR": str(tmp_path / "logs"),
    }
    for command in (["db", "migrate"], ["dags", "test", "recorded"]):
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-8000:]
    trials = ExperimentStore(f"sqlite:///{airflow_home}/axtx/experiments.db").trials("recorded")
    assert [trial.status for trial in trials] == ["COMPLETED"] * 3, done.stdout[-8000:]
    titles = {"trial 0", "trial 1", "trial 2"}
    recorded = runs_of(mlflow_uri, "recorded")
    assert sorted(run.info.run_name for run in recorded) == sorted(titles | {"recorded"}), done.stdout[-8000:]
    assert {run.info.status for run in recorded} == {"FINISHED"}
    (parent,) = (tmp_path / "logs").glob("*/recorded")
    assert {path.name for path in parent.iterdir() if path.is_dir()} == titles
    assert len(list((tmp_path / "logs").rglob("*tfevents*"))) == 4
    assert len(list((tmp_path / "runs").rglob("*.wandb"))) == 4
