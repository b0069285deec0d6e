"""Airflow DAGs whose tasks of one trial are for several hosts."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from tests.platform.dags.platform_common import common, make_dag, optimize, settings


def wait_elsewhere(dag_id: str, submitting: str) -> None:
    """Make a DAG that submits on one queue and waits, without being deferred, on another. No task ends its app."""

    @dag(dag_id=dag_id, **settings())
    def shape() -> None:
        app = common()
        create = AxCreateExperimentOperator(task_id="create", experiment=app.pop("experiment"))
        trial = AxGenerateTrialOperator(task_id="generate", experiment_name=create.output)
        run = TorchXSubmitTrialOperator(task_id="submit", trial=trial.output, queue=submitting, **app)
        wait = TorchXTrialSensor(task_id="wait", run=run.output, poke_interval=1, queue="elsewhere")
        AxCompleteTrialOperator(task_id="complete", run=wait.output)

    shape()


wait_elsewhere("wait_elsewhere", "default")
wait_elsewhere("wait_elsewhere_shared_root", "shared")
make_dag("optimize_elsewhere", optimize, "elsewhere", deferrable=False)
