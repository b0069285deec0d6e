"""Trials whose work Airflow tasks do: of several kinds, a failing one, and one that runs until it is ended."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import dag, task, task_group

from airflow_provider_axtx.task_groups import ax_trial_loop

START = pendulum.datetime(2026, 1, 1)


def experiment(name: str) -> dict[str, Any]:
    x = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}
    return {"name": f"{{{{ run_id }}}}-{name}", "parameters": [x], "objective": "-loss"}


@task
def doubled(x: str, trial: dict[str, Any]) -> float:
    assert float(x) == trial["parameters"]["x"]
    return 2.0 * trial["parameters"]["x"]


@task.external_python(python=sys.executable)
def squared(value: float) -> float:
    return value**2


@task_group
def mixed(trial: Any) -> Any:
    wait = TimeDeltaSensor(task_id="wait", delta=timedelta(seconds=1), deferrable=True)
    told = BashOperator(task_id="told", bash_command=f"echo {trial['x']}")
    wait >> told
    return squared(doubled(told.output, trial))


def failing(trial: Any) -> BashOperator:
    return BashOperator(task_id="train", bash_command="exit 3")


def endless(trial: Any) -> BashOperator:
    return BashOperator(task_id="train", bash_command="sleep 600")


@dag(schedule=None, start_date=START)
def bodies() -> None:
    ax_trial_loop("mixed", experiment=experiment("mixed"), body=mixed, trials_per_round=2)
    ax_trial_loop("failing", experiment=experiment("failing"), body=failing)


@dag(schedule=None, start_date=START)
def body_endless() -> None:
    ax_trial_loop("tune", experiment=experiment("endless"), body=endless, trials_per_round=2)


bodies()
body_endless()
