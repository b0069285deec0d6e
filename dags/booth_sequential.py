"""Tunes TorchX's example component `utils.booth`, one trial at a time, as in Ax's TorchXRunner tutorial."""

from __future__ import annotations

import pendulum
from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

EXPERIMENT = {
    "name": "booth-sequential-{{ run_id }}",
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
    ],
    "objective": "-booth_eval",
    "generation": {"initialization_budget": 4, "initialization_random_seed": 1, "random_seed": 1},
}


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["ax", "torchx"], doc_md=__doc__)
def booth_sequential() -> None:
    loop = ax_trial_loop(
        "tune", experiment=EXPERIMENT, component="utils.booth", rounds=6, poke_interval=1, timeout=300, deferrable=True
    )
    loop >> AxBestTrialOperator(task_id="best", experiment_name="booth-sequential-{{ run_id }}")


booth_sequential()
