"""Finds the trade-offs between two objectives, with a constraint relative to a baseline and some known settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import (
    AxAnalyzeOperator,
    AxAttachTrialsOperator,
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

COMPONENT = f"{Path(__file__).parent / 'apps' / 'components.py'}:compress"

EXPERIMENT = {
    "name": "compress-{{ run_id }}",
    "parameters": [
        {"type": "range", "name": "level", "parameter_type": "int", "bounds": [1, 9]},
        {"type": "range", "name": "window", "parameter_type": "int", "bounds": [9, 15]},
        {"type": "range", "name": "memory", "parameter_type": "int", "bounds": [1, 9]},
    ],
    "objective": "-size, -memory",
    "outcome_constraints": ["seconds <= 1.05*baseline"],
    "generation": {"initialization_budget": 6, "initialization_random_seed": 1, "random_seed": 1},
}
#: The baseline is zlib's default; the other two settings are from its manual.
KNOWN = [
    {"parameters": {"level": 6, "window": 15, "memory": 8}, "baseline": True},
    {"parameters": {"level": 1, "window": 15, "memory": 9}},
    {"parameters": {"level": 9, "window": 9, "memory": 1}},
]


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["ax", "torchx"],
    doc_md=__doc__,
)
def compress_frontier() -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=EXPERIMENT, component=COMPONENT)
    name = "{{ ti.xcom_pull(task_ids='create') }}"
    attach = AxAttachTrialsOperator(task_id="attach", experiment_name=name, trials=KNOWN)
    run = TorchXRunTrialOperator.partial(
        task_id="run", component=COMPONENT, poke_interval=1, timeout=600, deferrable=True
    ).expand(trial=attach.output)
    complete = AxCompleteTrialOperator.partial(task_id="complete").expand(run=run.output)
    loop = ax_trial_loop(
        "tune",
        experiment=EXPERIMENT,
        component=COMPONENT,
        rounds=4,
        trials_per_round=2,
        poke_interval=1,
        timeout=600,
        deferrable=True,
    )
    create >> attach
    complete >> loop
    loop >> [
        AxBestTrialOperator(task_id="frontier", experiment_name=name),
        AxAnalyzeOperator(task_id="analyze", experiment_name=name),
    ]


compress_frontier()
