"""Continues the same experiment every night: adds a few trials and returns the best one so far."""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

COMPONENT = f"{Path(__file__).parent / 'apps' / 'components.py'}:digits"

EXPERIMENT = {
    "name": "nightly-digits",
    "parameters": [
        {"type": "range", "name": "c", "parameter_type": "float", "bounds": [1e-2, 1e3], "scaling": "log"},
        {"type": "range", "name": "gamma", "parameter_type": "float", "bounds": [1e-4, 1.0], "scaling": "log"},
        {"type": "range", "name": "pixels", "parameter_type": "int", "bounds": [2, 64]},
    ],
    "objective": "accuracy",
    "generation": {"initialization_budget": 4, "initialization_random_seed": 1, "random_seed": 1},
}


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["ax", "torchx"],
    doc_md=__doc__,
)
def nightly_tuning() -> None:
    loop = ax_trial_loop(
        "tune",
        experiment=EXPERIMENT,
        component=COMPONENT,
        component_args={"kernel": "rbf"},
        rounds=2,
        trials_per_round=2,
        if_exists="resume",
        poke_interval=2,
        timeout=600,
        deferrable=True,
    )
    loop >> AxBestTrialOperator(task_id="best", experiment_name=EXPERIMENT["name"])


nightly_tuning()
